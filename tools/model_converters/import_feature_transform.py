"""Convert MoCo checkpoints of this package, the released FT code (PyContrast) or facebookresearch/moco.

The format of the input is recognised. For torchvision only the backbone is written.
"""

import argparse

from reprefine.engine.cli.tool import run_as_tool

EXAMPLE = """example:
  python tools/model_converters/import_feature_transform.py moco_v2_200ep_pretrain.pth.tar moco-v2_200ep.pth
  python tools/model_converters/import_feature_transform.py --to torchvision \\
      work_dirs/feature_transform/selfsup/moco-v2-ft_resnet50_8xb32-coslr-200e_in1k/epoch_200.pth resnet50.pth
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('checkpoint', help='checkpoint to convert, read weights-only; its format is recognised')
    parser.add_argument('out', help='file to write; it must not exist yet')
    parser.add_argument(
        '--to',
        choices=('reprefine', 'pycontrast', 'facebook', 'torchvision'),
        default='reprefine',
        help='format to write (default: reprefine, which mmpretrain reads as well)',
    )


def main(args: argparse.Namespace) -> None:
    """Read, rename keys, check for unexpected keys, and write."""
    from reprefine.methods.feature_transform.checkpoint import convert_checkpoint

    found, count = convert_checkpoint(args.checkpoint, args.out, args.to)
    print(f'{args.out}: {count} tensors, from {found} to {args.to}')


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
