"""Plot the timesteps that the policies of distillations chose, with their rewards and entropies."""

import argparse
from pathlib import Path

from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.errors import UserError

EXAMPLE = """example:
  python tools/analysis_tools/plot_timesteps.py \\
      work_dirs/repfusion/distill/resnet18-cifar_repfusion-rl-hint_200e_cifar10 \\
      work_dirs/repfusion/distill/resnet18-cifar_repfusion-rl-hint-published_200e_cifar10 --names EMA none \\
      --out timesteps.png --csv timesteps.csv"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('runs', nargs='+', metavar='RUN', help='work directory, or its timestep_hist.npz')
    parser.add_argument('--names', nargs='+', help='names of the runs (default: those of their folders)')
    parser.add_argument(
        '--stats', nargs='+', default=['reward', 'policy_entropy'], metavar='STAT', help='statistics to compare'
    )
    parser.add_argument('--bins', type=int, default=50, help='bins of timesteps')
    parser.add_argument('--classes', action='store_true', help='also draw the mean timestep of each class')
    parser.add_argument('--out', type=Path, default=Path('timesteps.png'), help='FILE.png or FILE.pdf')
    parser.add_argument('--csv', type=Path, metavar='FILE', help='also write the statistics')


def main(args: argparse.Namespace) -> None:
    """Read the runs, plot them and write the files.

    Raises:
        UserError: If the number of names differs, or a run cannot be read.
    """
    from reprefine.methods.repfusion.plot import plot_timesteps, write_stats
    from reprefine.methods.repfusion.policy.histogram import read_histogram
    from reprefine.visualization.figures import save_figure

    if args.bins < 1:
        raise UserError(f'--bins {args.bins}: give 1 or more')
    runs = [read_histogram(path) for path in args.runs]
    if args.names:
        if len(args.names) != len(runs):
            raise UserError(f'--names gives {len(args.names)} names for {len(runs)} runs: give one name per run')
        runs = [run._replace(name=name) for run, name in zip(runs, args.names, strict=True)]
    save_figure(plot_timesteps(runs, args.stats, args.bins, args.classes), args.out)
    for run in runs:
        last = run.counts[-1]
        print(f'{run.name}: epoch {run.epochs[-1]}, t = {last.argmax()} most often ({last.max() / last.sum():.1%})')
    print(f'wrote {args.out}')
    if args.csv:
        write_stats(runs, args.csv)
        print(f'wrote {args.csv}')


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
