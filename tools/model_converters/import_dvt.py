"""Convert a denoiser or a distilled ViT, released or trained with this package, for the configs of DVT."""

import argparse

from reprefine.engine.cli.launch import add_config_arguments
from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.errors import UserError

EXAMPLE = """examples:
  python tools/model_converters/import_dvt.py denoiser \\
      configs/dvt/segmentation/vit-b-dinov2-dvt_linear_8xb2-40k_voc12-512x512.py published.pth denoiser.pth
  python tools/model_converters/import_dvt.py vit \\
      configs/baselines/segmentation/vit-b-dinov2_linear_8xb2-40k_voc12-512x512.py published.pth vit.pth

The first file is for model.neck.checkpoint, the second one for model.backbone.checkpoint.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('kind', choices=('denoiser', 'vit'), help='content of the checkpoint')
    parser.add_argument('config', help='config whose neck or backbone the checkpoint is for')
    parser.add_argument('checkpoint', help='file to convert, read weights-only')
    parser.add_argument('out', help='file to write; it must not exist yet')
    parser.add_argument(
        '--rename',
        nargs='+',
        default=[],
        metavar='PATTERN=REPLACEMENT',
        help='regular expressions that rename the keys of the file before conversion, applied one after the other',
    )
    add_config_arguments(parser)


def main(args: argparse.Namespace) -> None:
    """Build the model of the config, rename keys, check for missing and unexpected keys, and write.

    Raises:
        UserError: If the model has no such neck or backbone, or the keys do not match.
    """
    from reprefine.engine.build import build_model
    from reprefine.engine.checkpoints.rename_keys import parse_renames
    from reprefine.engine.cli.launch import load_config
    from reprefine.methods.dvt import DVTDenoiser
    from reprefine.methods.dvt.denoiser.checkpoint import import_denoiser, import_vit
    from reprefine.models.timm_vit import TimmViT

    renames = parse_renames(args.rename)
    model = build_model(load_config(args.config, args.cfg_options, args.data_root))
    name, kind = ('neck', DVTDenoiser) if args.kind == 'denoiser' else ('backbone', TimmViT)
    part = getattr(model, name, None)
    if not isinstance(part, kind):
        raise UserError(f'{args.config}: model.{name} is not a {kind.__name__}; give a config of configs/dvt')
    if args.kind == 'denoiser':
        count = import_denoiser(part.denoiser, args.checkpoint, args.out, renames)
    else:
        count = import_vit(part.vit, args.checkpoint, args.out, renames)
    print(f'{args.out}: {count} tensors, for model.{name}.checkpoint of {args.config}')


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
