"""Compare the cost of a model with that of its baseline, or its training with that of mmengine's own Runner."""

import argparse
from pathlib import Path

from reprefine.engine.cli.launch import OptionsAction, add_config_arguments, load_config
from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.cost.compare import CostComparison
from reprefine.engine.cost.report import check_output, make_report, print_report, write_json
from reprefine.engine.cost.rows import PARTS, Settings
from reprefine.engine.cost.stock import RunnerComparison
from reprefine.engine.errors import UserError

EXAMPLE = """example:
  python tools/analysis_tools/compare_cost.py configs/denoiserep/classification/vit-tiny_denoiserep_digits.py \\
      --baseline configs/baselines/classification/vit-tiny_digits.py --deploy --out cost.json
  python tools/analysis_tools/compare_cost.py configs/baselines/classification/vit-tiny_digits.py --baseline stock"""

STOCK = 'stock'
BASELINE_HELP = f"""config to compare with; the word {STOCK} compares whole training iterations of CONFIG under this
project's Runner, all its checks included, with the same under mmengine's, on the device that they choose, and
requires equal losses"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('config', help='config of the model; its training data are used for both models')
    parser.add_argument('--baseline', required=True, help=BASELINE_HELP)
    add_config_arguments(parser)
    parser.add_argument(
        '--baseline-cfg-options',
        nargs='+',
        action=OptionsAction,
        metavar='KEY=VALUE',
        help='override settings of the baseline',
    )
    parser.add_argument('--only', nargs='+', choices=PARTS, default=list(PARTS), help='measure only these')
    parser.add_argument(
        '--deploy', action='store_true', help='switch both models to the deployed form for everything but training'
    )
    parser.add_argument('--batch-size', type=positive, help="images per batch (default: the training loader's own)")
    parser.add_argument(
        '--input-shape',
        nargs=2,
        type=positive,
        metavar=('H', 'W'),
        help='use random images of this size for everything but training',
    )
    parser.add_argument('--repeats', type=positive, default=20, help='timed rounds')
    parser.add_argument('--warmup', type=int, default=5, help='rounds before them that are not timed')
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision (bfloat16 on a CPU)')
    parser.add_argument('--device', default='cpu', help='torch device, such as cuda:0')
    parser.add_argument('--out', type=Path, metavar='FILE.json', help='write the rows and the environment as JSON')


def positive(text: str) -> int:
    """Parse a positive integer."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text} is not a positive integer')
    return int(text)


def main(args: argparse.Namespace) -> None:
    """Run the tool."""
    check_output(args.out)
    settings = Settings(
        parts=args.only,
        repeats=args.repeats,
        warmup=args.warmup,
        batch_size=args.batch_size,
        input_shape=args.input_shape and tuple(args.input_shape),
        device=args.device,
        amp=args.amp,
        deploy=args.deploy,
        data_root_given=args.data_root is not None,
    )
    config = load_config(args.config, args.cfg_options, args.data_root)
    if args.baseline == STOCK:
        if args.baseline_cfg_options:
            raise UserError('--baseline stock trains the same config: use --cfg-options, not --baseline-cfg-options')
        comparison = RunnerComparison(config, settings)
    else:
        baseline = load_config(args.baseline, args.baseline_cfg_options)
        comparison = CostComparison(config, baseline, settings)
    rows = comparison.run()
    arguments = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
    report = make_report(comparison, rows, arguments)
    print_report(report, rows)
    if args.out:
        write_json(report, args.out)


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
