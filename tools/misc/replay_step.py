"""Repeat a training step whose loss or gradient was not finite, and print the first module with such an output."""

import argparse
import math

from reprefine.engine.cli.launch import add_config_arguments, load_config
from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.errors import UserError
from reprefine.engine.finite_check.replay import read_replay
from reprefine.engine.finite_check.rerun import Rerun, rerun

LISTED = 5
EXAMPLE = """example:
  python tools/train.py configs/baselines/classification/vit-tiny_digits.py --cfg-options finite_check.replay=True
  python tools/misc/replay_step.py configs/baselines/classification/vit-tiny_digits.py \\
      work_dirs/baselines/classification/vit-tiny_digits/nonfinite_iter_12.pth"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('config', help='config file of the run')
    parser.add_argument('file', help='the file nonfinite_iter_N.pth that the run wrote')
    add_config_arguments(parser)


def main(args: argparse.Namespace) -> None:
    """Run the tool.

    Raises:
        UserError: If the step is not reproduced.
    """
    content = read_replay(args.file)
    cfg = load_config(args.config, args.cfg_options, args.data_root)
    found = rerun(cfg, content)
    print(*_lines(found, content['terms']), sep='\n')
    if found.is_finite:
        raise UserError(
            f'{args.file}: all values are finite, the step is not reproduced: run it on the machine that wrote the file'
        )


def _lines(found: Rerun, recorded: dict[str, float]) -> list[str]:
    lines = [f'{name} = {value} (recorded: {recorded.get(name)})' for name, value in found.terms.items()]
    nonfinite = [name for name, norm in found.gradients.items() if not math.isfinite(norm)]
    finite = [name for name in found.gradients if name not in nonfinite]
    lines += [f'gradient of {name}: norm {found.gradients[name]}' for name in (nonfinite + finite)[:LISTED]]
    lines.append(f'{len(nonfinite)} of {len(found.gradients)} gradients are not finite')
    lines.append(f'first module whose output is not finite: {found.module or "none"}')
    if found.operation:
        lines.append(f'backward pass: {found.operation}')
    equal = 'the recorded loss values' if found.equals(recorded) else 'other loss values than recorded'
    return [*lines, f'{"not reproduced" if found.is_finite else "reproduced"}, with {equal}']


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
