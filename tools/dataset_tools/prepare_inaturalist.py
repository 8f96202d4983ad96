"""Write the image lists of iNaturalist 2018 from its annotations."""

import argparse
from pathlib import Path

from reprefine.engine.cli.tool import run_as_tool
from reprefine.tasks.classification.prepare.inaturalist import SIZES, write_lists

EXAMPLE = """example:
  python tools/dataset_tools/prepare_inaturalist.py data/inaturalist2018"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('data_root', type=Path, help='folder with train2018.json, val2018.json and train_val2018/')


def main(args: argparse.Namespace) -> None:
    """Run the tool."""
    counts = write_lists(args.data_root)
    for split, count in counts.items():
        print(f'{args.data_root}/meta/{split}.txt: {count:,} images')
    if counts != SIZES:
        print('note: the complete dataset has {train2018:,} training and {val2018:,} validation images'.format(**SIZES))


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
