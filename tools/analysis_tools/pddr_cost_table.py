"""Print parameters and MACs of ResNets with PD-A and PD-B: in training, as in the published tables, and as stored."""

import argparse

from reprefine.engine.cli.tool import run_as_tool

EXAMPLE = """example:
  python tools/analysis_tools/pddr_cost_table.py --depth 18 50"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument(
        '--depth', type=int, nargs='+', default=[18, 50], choices=(18, 34, 50, 101, 152), help='depths of the ResNets'
    )
    parser.add_argument('--shape', type=int, nargs=2, default=(224, 224), metavar=('H', 'W'), help='image size')
    parser.add_argument(
        '--branches',
        nargs='+',
        default=('standard1', 'standard2', 'skeleton', 'group'),
        help='branches of a PD convolution',
    )


def main(args: argparse.Namespace) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table

    from reprefine.methods.pddr.cost import COLUMNS, cost_rows

    table = Table('network', *COLUMNS, caption='1000 classes; MACs for one image; mixing: per image, at any size')
    for depth in args.depth:
        rows = cost_rows(depth, tuple(args.shape), branches=tuple(args.branches))
        for name, values in rows.items():
            table.add_row(f'ResNet-{depth} {name}', *(f'{value:,}' for value in values))
    Console(width=140).print(table)


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
