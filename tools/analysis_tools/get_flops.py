"""Count the parameters and FLOPs of a model and of its parts."""

import argparse

from rich.console import Console
from rich.table import Table

from reprefine.engine.cli.launch import add_config_arguments, load_config
from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.cost.counting import ModuleCost, count_module_costs
from reprefine.engine.cost.inputs import InputBatch, loader_batch, random_batch
from reprefine.engine.cost.models import build_untrained
from reprefine.engine.errors import UserError

EXAMPLE = """example:
  python tools/analysis_tools/get_flops.py configs/baselines/classification/vit-tiny_digits.py --shape 8 8"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        metavar=('H', 'W'),
        help='size of the random image (default: the size the config tests at)',
    )
    add_config_arguments(parser)


def main(args: argparse.Namespace) -> None:
    """Run the tool. With ``--data-root`` the first test image is the input, otherwise random pixels."""
    if args.shape and args.data_root:
        raise UserError('--shape and --data-root exclude each other: give one of them')
    if args.shape and min(args.shape) < 1:
        raise UserError(f'--shape {args.shape[0]} {args.shape[1]}: give a positive height and width')
    cfg = load_config(args.config, args.cfg_options, args.data_root)
    batch = loader_batch(cfg, 'test', 1) if args.data_root else random_batch(cfg, args.shape)
    print_costs(count_module_costs(build_untrained(cfg), batch), batch)


def print_costs(costs: list[ModuleCost], batch: InputBatch) -> None:
    """Print a table of the parts and the total."""
    total, *parts = costs
    table = Table('part', title=batch.source, caption='FLOPs of one image: two per multiply-add')
    for column in ('parameters', 'FLOPs', 'share'):
        table.add_column(column, justify='right')
    for part in [*parts, total]:
        share = f'{part.flops / total.flops:.1%}' if total.flops else '-'
        table.add_row(
            part.name or 'whole model',
            f'{part.parameters:,}',
            f'{part.flops:,.0f}',
            share,
            end_section=part is parts[-1] if parts else False,
        )
    Console().print(table)


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
