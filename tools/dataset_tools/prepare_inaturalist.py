"""Write the image lists of iNaturalist 2018 from its annotations."""

import argparse
import sys
from pathlib import Path

from reprefine.engine.errors import run_cli
from reprefine.tasks.classification.prepare.inaturalist import SIZES, write_lists

EXAMPLE = """example:
  python tools/dataset_tools/prepare_inaturalist.py data/inaturalist2018"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('data_root', type=Path, help='folder with train2018.json, val2018.json and train_val2018/')
    return parser


def main(args: argparse.Namespace) -> None:
    """Run the tool."""
    counts = write_lists(args.data_root)
    for split, count in counts.items():
        print(f'{args.data_root}/meta/{split}.txt: {count:,} images')
    if counts != SIZES:
        print('note: the whole dataset has {train2018:,} training and {val2018:,} validation images'.format(**SIZES))


if __name__ == '__main__':
    sys.exit(run_cli(main, make_parser()))
