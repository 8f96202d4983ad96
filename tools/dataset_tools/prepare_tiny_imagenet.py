"""Write the validation images of Tiny-ImageNet into class folders.

reprefine reads Tiny-ImageNet as downloaded; other training codes expect class folders.
"""

import argparse
from pathlib import Path

from reprefine.engine.cli.tool import run_as_tool
from reprefine.tasks.classification.prepare.tiny_imagenet import sort_val_images

EXAMPLE = """example:
  python tools/dataset_tools/prepare_tiny_imagenet.py data/tiny-imagenet-200 --out data/tiny-imagenet-200/val_sorted"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('data_root', type=Path, help='folder of Tiny-ImageNet as downloaded')
    parser.add_argument('--out', type=Path, required=True, help='folder for images/<wnid>/val_N.JPEG')


def main(args: argparse.Namespace) -> None:
    """Run the tool."""
    print(f'{args.out}/images: {sort_val_images(args.data_root, args.out):,} images')


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
