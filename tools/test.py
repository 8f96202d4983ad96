"""Test a checkpoint with a config, or a config that trains nothing."""

from reprefine.engine.cli.test import add_test_arguments, test
from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.processes import exit_process

EXAMPLE = """example:
  python tools/test.py configs/baselines/classification/vit-tiny_digits.py \\
      work_dirs/baselines/classification/vit-tiny_digits/epoch_30.pth --out metrics.json
  python tools/test.py configs/baselines/object_discovery/vit-b-dinov2_lost-norm_voc07.py
"""


if __name__ == '__main__':
    run_as_tool(test, add_test_arguments, __doc__, EXAMPLE, leave=exit_process)
