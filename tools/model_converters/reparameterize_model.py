"""Reparameterise a checkpoint of any refined model (DenoiseRep, PD-A, PD-B, or several methods) for deployment.

Outputs before and after are compared on random images of the model's input size, and on images of the test set if its
data exist. Nothing is written if they differ.
"""

import argparse
from pathlib import Path

from reprefine.engine.checkpoints.rename_keys import add_key_arguments, key_options
from reprefine.engine.cli.launch import add_config_arguments
from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write

EXAMPLE = """example:
  python tools/model_converters/reparameterize_model.py \\
      configs/pddr/classification/resnet18-pda_8xb32-wide-crop_in1k.py epoch_100.pth resnet18.safetensors \\
      --export-plain --onnx resnet18.onnx
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('config', help='config of the training run')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('out', help='.pth or .safetensors file to write; it must not exist yet')
    parser.add_argument(
        '--export-plain',
        action='store_true',
        help='write a checkpoint for the baseline config instead of the config with deploy=True',
    )
    parser.add_argument(
        '--plain-config',
        metavar='FILE',
        help='the baseline config (default: derived from CONFIG); implies --export-plain',
    )
    parser.add_argument(
        '--onnx', metavar='FILE.onnx', help='also export the deployed network and verify it with onnxruntime'
    )
    parser.add_argument('--dynamic', action='store_true', help='export an ONNX file for images of any size')
    parser.add_argument(
        '--shape', type=int, nargs=2, metavar=('H', 'W'), help="size of the images (default: the model's input size)"
    )
    parser.add_argument(
        '--tolerance',
        type=float,
        metavar='X',
        help='maximum difference of the output of a layer or the model, relative to the largest value (default: 1e-5 '
        'in float64, 1e-4 for models that support only float32)',
    )
    parser.add_argument(
        '--onnx-tolerance', type=float, default=1e-4, metavar='X', help='the same for onnxruntime (default: 1e-4)'
    )
    add_key_arguments(parser)
    add_config_arguments(parser)


def main(args: argparse.Namespace) -> None:
    """Load, reparameterise, compare, export and write."""
    from reprefine.deploy.checkpoint import check_target, write_checkpoint
    from reprefine.deploy.from_config import describe, reparameterize_from_config
    from reprefine.deploy.onnx import export_onnx, import_onnxruntime
    from reprefine.engine.cli.launch import load_config

    check_target(args.out)
    if args.onnx:
        import_onnxruntime()  # fail before anything is computed
        if Path(args.onnx).exists():
            raise UserError(f'{args.onnx} exists: give another name, or remove it')
    elif args.dynamic:
        raise UserError('--dynamic is an option of the ONNX export: give --onnx FILE.onnx')
    baseline = args.plain_config and load_config(args.plain_config)
    cfg = load_config(args.config, args.cfg_options, args.data_root)
    options = dict(shape=args.shape and tuple(args.shape), must_have_data=args.data_root is not None)
    options |= dict(tolerance=args.tolerance, **key_options(args))
    result, shape = reparameterize_from_config(cfg, args.checkpoint, args.export_plain, baseline, **options)
    with atomic_write(args.onnx) as partial:
        exported = partial and export_onnx(result.model, partial, shape, args.dynamic, args.onnx_tolerance)
        write_checkpoint(result, args.out)
    print(f'{args.out}: {describe(result)}')
    if exported:
        print(
            f'{args.onnx}: {exported.part}, for {exported.shape}; onnxruntime equals PyTorch to '
            f'{exported.difference:.0e} (tolerance {args.onnx_tolerance:.0e})'
        )


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
