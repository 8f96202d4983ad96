"""Train a model from a config."""

from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.cli.train import add_train_arguments, train
from reprefine.engine.processes import exit_process

EXAMPLE = """example:
  python tools/train.py configs/baselines/classification/vit-tiny_digits.py --cfg-options randomness.seed=1
"""


if __name__ == '__main__':
    run_as_tool(train, add_train_arguments, __doc__, EXAMPLE, leave=exit_process)
