"""Sort the validation images of Tiny-ImageNet into class folders.

reprefine reads Tiny-ImageNet as downloaded and needs no such step; other training codes expect the folders.
"""

import argparse
import sys
from pathlib import Path

from reprefine.engine.errors import run_cli
from reprefine.tasks.classification.prepare.tiny_imagenet import sort_val_images

EXAMPLE = """example:
  python tools/dataset_tools/prepare_tiny_imagenet.py data/tiny-imagenet-200 --out data/tiny-imagenet-200/val_sorted"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('data_root', type=Path, help='folder of Tiny-ImageNet as downloaded')
    parser.add_argument('--out', type=Path, required=True, help='folder for images/<wnid>/val_N.JPEG')
    return parser


def main(args: argparse.Namespace) -> None:
    """Run the tool."""
    print(f'{args.out}/images: {sort_val_images(args.data_root, args.out):,} images')


if __name__ == '__main__':
    sys.exit(run_cli(main, make_parser()))
