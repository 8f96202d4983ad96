"""Write small datasets in the on-disk layouts of the benchmarks; they are for trying and testing, not for results."""

import argparse
from pathlib import Path

from toy_data import SETS, make_toy_data

from reprefine.engine.cli.tool import run_as_tool

EXAMPLE = """examples:
  python tools/dataset_tools/make_toy_data.py --out data/toy
  python tools/dataset_tools/make_toy_data.py --out data/toy --only coco cifar10 --seed 1
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('--out', type=Path, required=True, help='folder to write to; what an earlier call made is kept')
    parser.add_argument('--only', nargs='+', metavar='NAME', help=f'sets to make, default all: {", ".join(SETS)}')
    parser.add_argument('--seed', type=int, default=0, help='seed of the random numbers (default: %(default)s)')


def main(args: argparse.Namespace) -> None:
    """Write the sets and print a line for each."""
    for folder in make_toy_data(args.out, args.only, args.seed):
        sizes = [path.stat().st_size for path in folder.rglob('*') if path.is_file()]
        print(f'{folder}: {len(sizes):,} files, {sum(sizes) / 1e6:.1f} MB')


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
