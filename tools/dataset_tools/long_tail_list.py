"""Write a long-tailed subset of an image list: class sizes decrease exponentially; classes and images are random."""

import argparse
from pathlib import Path

import numpy as np

from reprefine.engine.cli.tool import run_as_tool
from reprefine.tasks.classification.image_lists import class_counts, read_list, write_list
from reprefine.tasks.classification.prepare.long_tail import long_tail

EXAMPLE = """example:
  python tools/dataset_tools/long_tail_list.py data/imagenet/meta/train_100.txt data/imagenet/meta/train_100_lt.txt"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('ann_file', type=Path, help='list with "path label" in each line')
    parser.add_argument('out', type=Path, help='list to write')
    parser.add_argument(
        '--imbalance', type=float, default=100, help='ratio of the largest to the smallest class (default: 100)'
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='seed of the order of the classes and the choice of images (default: 0)'
    )


def main(args: argparse.Namespace) -> None:
    """Run the tool."""
    samples = long_tail(read_list(args.ann_file), args.imbalance, np.random.default_rng(args.seed))
    write_list(samples, args.out)
    counts = class_counts(samples)
    counts = counts[counts > 0]
    print(f'{args.out}: {len(samples):,} images of {len(counts)} classes, {counts.min()} to {counts.max()} per class')


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
