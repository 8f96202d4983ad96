"""Test a checkpoint with a config, or a config that trains nothing."""

import argparse

from reprefine.engine.cli.test import add_test_arguments, test
from reprefine.engine.errors import run_cli
from reprefine.engine.processes import exit_process

EXAMPLE = """example:
  python tools/test.py configs/baselines/classification/vit-tiny_digits.py \\
      work_dirs/baselines/classification/vit-tiny_digits/epoch_30.pth --out metrics.json
  python tools/test.py configs/baselines/object_discovery/vit-b-dinov2_lost-norm_voc07.py
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_test_arguments(parser)
    return parser


if __name__ == '__main__':
    exit_process(run_cli(test, make_parser()))
