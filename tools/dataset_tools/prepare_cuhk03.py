"""Convert the CUHK03 release to image folders of the new protocol."""

import argparse
import sys
from pathlib import Path

from reprefine.engine.cli.tool import run_as_tool
from reprefine.tasks.reid.prepare import prepare_cuhk03

EXAMPLE = """example:
  python tools/dataset_tools/prepare_cuhk03.py data/cuhk03

The folder has cuhk-03.mat and cuhk03_new_protocol_config_{labeled,detected}.mat, which are only read. Run it again to
continue an interrupted conversion."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('data_root', type=Path, help='folder of the raw files; the images are written into it')


def main(args: argparse.Namespace) -> None:
    """Run the tool."""
    counts = prepare_cuhk03(args.data_root, warn=lambda line: print(f'warning: {line}', file=sys.stderr))
    for boxes, count_of in counts.items():
        numbers = ', '.join(f'{role} {count:,}' for role, count in count_of.items())
        print(f'{args.data_root / boxes}: {numbers} images')


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
