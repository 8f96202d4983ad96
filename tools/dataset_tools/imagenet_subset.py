"""Write the annotation files of a subset of ImageNet-1k, by default those of ImageNet-100."""

import argparse
from pathlib import Path

from reprefine.engine.cli.tool import run_as_tool
from reprefine.tasks.classification.classes import WNIDS
from reprefine.tasks.classification.prepare.imagenet_subset import read_classes, write_subset

EXAMPLE = """example:
  python tools/dataset_tools/imagenet_subset.py data/imagenet"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('data_root', type=Path, help='folder of ImageNet-1k')
    parser.add_argument('--classes', type=Path, help='file with one wnid per line (default: ImageNet-100)')
    parser.add_argument('--suffix', default='100', help='the files are meta/{train,val}_SUFFIX.txt (default: 100)')


def main(args: argparse.Namespace) -> None:
    """Run the tool."""
    wnids = read_classes(args.classes) if args.classes else WNIDS
    counts = write_subset(args.data_root, wnids, args.suffix)
    for split, count in counts.items():
        print(f'{args.data_root}/meta/{split}_{args.suffix}.txt: {count:,} images of {len(wnids)} classes')
    if not args.classes and counts != {'train': 126_689, 'val': 5_000}:
        print('note: the complete ImageNet-100 has 126,689 training and 5,000 validation images')


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
