"""Convert the raw CUHK03 release into folders of images under the new protocol."""

import argparse
import sys
from pathlib import Path

from reprefine.engine.cli.tool import run_as_tool
from reprefine.tasks.reid.prepare import prepare_cuhk03

EXAMPLE = """example:
  python tools/dataset_tools/prepare_cuhk03.py data/cuhk03

The folder holds cuhk-03.mat and cuhk03_new_protocol_config_{labeled,detected}.mat, which stay as they are. An
interrupted conversion continues where it stopped."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('data_root', type=Path, help='folder of the raw files; the images are written into it')


def main(args: argparse.Namespace) -> None:
    """Run the tool."""
    counts = prepare_cuhk03(args.data_root, warn=lambda line: print(f'warning: {line}', file=sys.stderr))
    for boxes, of_role in counts.items():
        numbers = ', '.join(f'{role} {count:,}' for role, count in of_role.items())
        print(f'{args.data_root / boxes}: {numbers} images')


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
