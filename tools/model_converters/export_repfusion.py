"""Take the student's backbone out of a RepFusion distillation, with a record of where it comes from.

Models of this package start from a distillation directly (``prefix='student.backbone.'``); this is for all others. The
keys of a ResNet are those of torchvision.
"""

import argparse
import sys

from reprefine.engine.checkpoints.rename_keys import add_key_arguments, key_options
from reprefine.engine.errors import run_cli

EXAMPLE = """example:
  python tools/model_converters/export_repfusion.py --prefix backbone. \\
      work_dirs/repfusion/distill/resnet18-cifar_repfusion-rl-hint_200e_cifar10/epoch_200.pth resnet18.pth
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoint', help='checkpoint of a distillation, read weights-only')
    parser.add_argument('out', help='file to write; it must not exist yet')
    parser.add_argument('--prefix', default='', help="put in front of every key, such as 'backbone.' for mmpretrain")
    add_key_arguments(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    """Read, rename and write."""
    from reprefine.methods.repfusion.distillation.export import export_backbone

    meta = export_backbone(args.checkpoint, args.out, args.prefix, **key_options(args))
    print(f'{args.out}: backbone after epoch {meta["epoch"]}, teacher {meta["teacher"]}')


if __name__ == '__main__':
    sys.exit(run_cli(main, make_parser()))
