"""Prepare CelebAMask-HQ: merge the part masks into one label map per face, and write the ids of each split.

The raw files are only read. Run it again to continue an interrupted call.
"""

import argparse
import os
from pathlib import Path

from reprefine.engine.cli.tool import run_as_tool

EXAMPLE = """example:
  python tools/dataset_tools/prepare_celebamask_hq.py data/celebamask-hq
  python tools/dataset_tools/prepare_celebamask_hq.py data/toy/celebamask-hq --allow-partial"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('data_root', type=Path, help='folder of CelebAMask-HQ as downloaded; results are written there')
    parser.add_argument(
        '--split', choices=['celeba', 'random'], default='celeba', help="follow CelebA's splits (default), or shuffle"
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of --split random (default: 0)')
    parser.add_argument('--workers', type=int, default=os.cpu_count(), help='number of processes (default: all cores)')
    parser.add_argument('--allow-partial', action='store_true', help='accept fewer than the 30,000 faces')
    parser.add_argument('--check', action='store_true', help='compare the results with the raw files; write nothing')


def main(args: argparse.Namespace) -> None:
    """Run the tool."""
    from reprefine.tasks.face_parsing.prepare.convert import check, list_file, make_plan, prepare

    plan = make_plan(args.data_root, args.split, args.seed, args.allow_partial)
    (check if args.check else prepare)(plan, args.workers)
    for split, faces in plan.splits.items():
        print(f'{args.data_root / list_file(split)}: {len(faces):,} faces')


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
