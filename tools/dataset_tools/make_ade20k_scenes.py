"""Write synthetic scenes in the layout of ADE20K, with any number of images."""

import argparse
from pathlib import Path

import numpy as np
from toy_data.ade20k import SPLITS, write

from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.errors import UserError

EXAMPLE = """example:
  python tools/dataset_tools/make_ade20k_scenes.py --train 2000 --val 200 --out work_dirs/dvt_demo/scenes
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('--train', type=int, default=SPLITS['training'][1], help='number of training scenes')
    parser.add_argument('--val', type=int, default=SPLITS['validation'][1], help='number of validation scenes')
    parser.add_argument('--seed', type=int, default=0, help='seed of all content')
    parser.add_argument('--out', type=Path, required=True, help='folder to write, new or empty')


def main(args: argparse.Namespace) -> None:
    """Write the scenes.

    Raises:
        UserError: If the folder is not empty, or a number is below one.
    """
    if args.out.is_dir() and any(args.out.iterdir()):
        raise UserError(f'{args.out} is not empty: give a new folder')
    if min(args.train, args.val) < 1:
        raise UserError(f'--train {args.train} --val {args.val}: give 1 or more')
    write(args.out, np.random.default_rng(args.seed), dict(training=args.train, validation=args.val))


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
