"""Convert a checkpoint of TransReID-SSL, pre-trained on LUPerson or a ReID dataset, for the configs of this package."""

import argparse

from reprefine.engine.cli.tool import run_as_tool

EXAMPLE = """example:
  python tools/model_converters/import_transreid_ssl.py vit_small_cfs_lup.pth checkpoints/vit-small_luperson.pth
  python tools/train.py configs/baselines/reid/vit-small_120e_market1501-256x128.py
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('checkpoint', help='checkpoint of TransReID-SSL, read weights-only')
    parser.add_argument('out', help='file to write; it must not exist yet')


def main(args: argparse.Namespace) -> None:
    """Rename keys, check for missing and unexpected keys, write, and print the config of the backbone."""
    from reprefine.tasks.reid.checkpoint import import_checkpoint

    backbone = import_checkpoint(args.checkpoint, args.out)
    print(f'{args.out}: fits model.backbone = {backbone}')


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
