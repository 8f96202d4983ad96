"""Compare the results of groups of runs in a table: mean ± standard deviation, and the difference to the first group.

Differences are paired by seed if both groups have the same seeds.
"""

import argparse
import glob

from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.errors import UserError

EXAMPLE = """example:
  python tools/analysis_tools/compare_runs.py \\
      MoCo='work_dirs/feature_transform_demo/moco_queue2048_seed*' \\
      MoCo+FT='work_dirs/feature_transform_demo/moco-ft_queue2048_seed*' \\
      --metrics knn_top1 accuracy/top1
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument(
        'groups',
        nargs='+',
        metavar='NAME=PATTERN[,PATTERN...]',
        help='name and work directories of a group; the first is the baseline',
    )
    parser.add_argument('--metrics', nargs='+', default=['knn_top1'], help='scalars of the logs (default: knn_top1)')
    parser.add_argument(
        '--at', choices=('last', 'max', 'min'), default='last', help='which value of a run counts (default: last)'
    )


def main(args: argparse.Namespace) -> None:
    """Read the logs and print a Markdown table."""
    from reprefine.visualization.run_comparison import comparison_table, read_run_result

    groups = {}
    for text in args.groups:
        name, equals, patterns = text.partition('=')
        if not (name and equals and patterns):
            raise UserError(f'{text}: expected NAME=PATTERN')
        folders = sorted({folder for pattern in patterns.split(',') for folder in glob.glob(pattern)})
        if not folders:
            raise UserError(f'{text}: no such folder')
        groups[name] = [read_run_result(folder) for folder in folders]
    print(comparison_table(groups, args.metrics, args.at))


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
