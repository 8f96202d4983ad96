"""Export the student's backbone of a RepFusion distillation, with its origin in the meta data.

Models of this package load a distillation directly (``prefix='student.backbone.'``); this is for other code. The keys
of a ResNet are those of torchvision.
"""

import argparse

from reprefine.engine.checkpoints.rename_keys import add_key_arguments, key_options
from reprefine.engine.cli.tool import run_as_tool

EXAMPLE = """example:
  python tools/model_converters/export_repfusion.py --prefix backbone. \\
      work_dirs/repfusion/distill/resnet18-cifar_repfusion-rl-hint_200e_cifar10/epoch_200.pth resnet18.pth
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('checkpoint', help='checkpoint of a distillation, read weights-only')
    parser.add_argument('out', help='file to write; it must not exist yet')
    parser.add_argument('--prefix', default='', help="prefix of every key, such as 'backbone.' for mmpretrain")
    add_key_arguments(parser)


def main(args: argparse.Namespace) -> None:
    """Read, rename and write."""
    from reprefine.methods.repfusion.distillation.export import export_backbone

    meta = export_backbone(args.checkpoint, args.out, args.prefix, **key_options(args))
    print(f'{args.out}: backbone after epoch {meta["epoch"]}, teacher {meta["teacher"]}')


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
