"""Train a model from a config."""

import argparse

from reprefine.engine.cli.train import add_train_arguments, train
from reprefine.engine.errors import run_cli
from reprefine.engine.processes import exit_process

EXAMPLE = """example:
  python tools/train.py configs/baselines/classification/vit-tiny_digits.py --cfg-options randomness.seed=1
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_train_arguments(parser)
    return parser


if __name__ == '__main__':
    exit_process(run_cli(train, make_parser()))
