"""Plot the score statistics of contrastive runs of this package or of the released FT code."""

import argparse
from pathlib import Path

from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.errors import UserError

EXAMPLE = """example:
  python tools/analysis_tools/plot_score_stats.py \\
      work_dirs/feature_transform_demo/moco_queue2048_seed0 \\
      work_dirs/feature_transform_demo/moco-ft_queue2048_seed0 --names MoCo MoCo+FT \\
      --smooth 50 --out scores.png --csv scores.csv
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument(
        'runs',
        nargs='+',
        metavar='RUN',
        help='work directory, folder of statistics, or folder of published score_*.npy',
    )
    parser.add_argument('--names', nargs='+', help='names of the runs (default: those of their folders)')
    parser.add_argument('--keys', nargs='+', default=['neg_var', 'neg_mean', 'pos_mean'], help='statistics to draw')
    parser.add_argument(
        '--stage', choices=('ft', 'raw'), default='ft', help='scores after (ft) or before (raw) the transform'
    )
    parser.add_argument('--x', choices=('iter', 'epoch'), default='iter', help='horizontal axis')
    parser.add_argument('--view', choices=('2d', '3d'), default='2d', help='lines, or a 3D plot of the runs')
    parser.add_argument('--start', type=float, default=0, metavar='N', help='skip records up to iteration N')
    parser.add_argument('--smooth', type=int, default=1, metavar='W', help='moving average over W records')
    parser.add_argument('--ylim', nargs='+', default=[], metavar='KEY:LO,HI', help='limits of a statistic')
    parser.add_argument('--vlines', nargs='+', type=float, default=[], metavar='X', help='vertical lines')
    parser.add_argument('--band', action='store_true', help='shade mean ± standard deviation of the scores')
    parser.add_argument('--out', type=Path, default=Path('score_stats.png'), help='FILE.png or FILE.pdf')
    parser.add_argument('--csv', type=Path, metavar='FILE', help='also write the recorded values')


def main(args: argparse.Namespace) -> None:
    """Read the runs, plot them and write the files."""
    from reprefine.methods.feature_transform.score_files import read_run
    from reprefine.methods.feature_transform.score_plots import PlotStyle, plot_lines, plot_waterfall, write_csv
    from reprefine.visualization.figures import save_figure

    runs = [read_run(folder) for folder in args.runs]
    if args.names:
        if len(args.names) != len(runs):
            raise UserError(f'--names gives {len(args.names)} names for {len(runs)} runs: give one name per run')
        runs = [run._replace(name=name) for run, name in zip(runs, args.names, strict=True)]
    prefix = 'raw_' if args.stage == 'raw' else ''
    keys = [prefix + key for key in args.keys]
    limits = {prefix + key: limit for key, limit in map(parse_limit, args.ylim)}
    style = PlotStyle(args.x, args.start, max(args.smooth, 1), args.band, limits, args.vlines)
    figure = (plot_waterfall if args.view == '3d' else plot_lines)(runs, keys, style)
    save_figure(figure, args.out)
    print(f'{args.out}: {len(runs)} runs, {", ".join(keys)}')
    if args.csv:
        write_csv(runs, keys, args.csv)
        print(f'{args.csv}: recorded values')


def parse_limit(text: str) -> tuple[str, tuple[float, float]]:
    """Parse ``KEY:LO,HI``."""
    try:
        key, limits = text.split(':')
        low, high = (float(limit) for limit in limits.split(','))
    except ValueError as error:
        raise UserError(f'--ylim {text}: expected KEY:LO,HI, such as neg_mean:-0.25,0.25') from error
    return key, (low, high)


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
