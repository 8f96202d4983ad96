"""Fold the branches of a PD-A or PD-B checkpoint, for a classifier, detector, segmentor or any other model."""

import argparse
import sys
from pathlib import Path

from reprefine.engine.checkpoints.rename import add_key_arguments, key_options
from reprefine.engine.errors import UserError, run_cli

EXAMPLE = """example:
  python tools/model_converters/reparameterize_model.py \\
      configs/pddr/classification/resnet18-pda_8xb32-wide-crop_in1k.py epoch_100.pth epoch_100_deploy.pth
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config of the training run')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('out', help='file to write; it must not exist yet')
    parser.add_argument(
        '--export-plain', action='store_true', help='write PD-A for the untouched plain config instead of deploy=True'
    )
    parser.add_argument('--onnx', metavar='FILE.onnx', help='also export the deployed network, checked by onnxruntime')
    parser.add_argument(
        '--shape', type=int, nargs=2, default=(224, 224), metavar=('H', 'W'), help='image size of the ONNX file'
    )
    for name, default, what in (('', 1e-5, 'folded from the trained'), ('onnx-', 1e-4, "onnxruntime's from PyTorch's")):
        parser.add_argument(
            f'--{name}tolerance',
            type=float,
            default=default,
            metavar='X',
            help=f'largest difference of {what} output, relative to the largest value, that counts as rounding '
            '(default: %(default)s)',
        )
    add_key_arguments(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    """Load, fold, compare and write."""
    from reprefine.engine.build import build_model
    from reprefine.engine.launch import load_config
    from reprefine.methods.pddr.checkpoint import reparameterize
    from reprefine.methods.pddr.export import export_onnx, import_onnxruntime

    if args.onnx:
        import_onnxruntime()  # fail before anything is written
        if Path(args.onnx).exists():
            raise UserError(f'{args.onnx} exists: give another name, or remove it')
    model = build_model(load_config(args.config))
    options = dict(plain=args.export_plain, tolerance=args.tolerance, **key_options(args))
    folding = reparameterize(model, args.checkpoint, args.out, **options)
    kind = 'plain' if args.export_plain else 'deployed'
    weights = ' (moving average of the run)' if folding.averaged else ''
    print(f'{args.out}: {kind} checkpoint{weights}')
    print(
        f'largest difference from the training form {folding.difference:.0e} (tolerance {args.tolerance:.0e}), '
        f'on {folding.compared}'
    )
    print(f'parameters: training form {folding.before:,}, {kind} {folding.after:,}')
    if args.onnx:
        difference = export_onnx(folding.model, args.onnx, tuple(args.shape), tolerance=args.onnx_tolerance)
        print(f'{args.onnx}: onnxruntime equals PyTorch to {difference:.0e} (tolerance {args.onnx_tolerance:.0e})')


if __name__ == '__main__':
    sys.exit(run_cli(main, make_parser()))
