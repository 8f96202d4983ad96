"""Plot the noise loss of every layer over a DenoiseRep training run."""

import argparse
from pathlib import Path

import numpy as np

from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.errors import UserError
from reprefine.methods.denoiserep.plot import noise_series, plot_noise_losses
from reprefine.visualization.results import read_scalars

EXAMPLE = """example:
  python tools/train.py configs/denoiserep/classification/vit-tiny_denoiserep_digits.py \\
      --cfg-options load_from=BASELINE.pth model.denoise.log_layers=True --work-dir work_dirs/noise
  python tools/analysis_tools/plot_noise_loss.py work_dirs/noise"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('work_dir', type=Path, help='work dir of a run with model.denoise.log_layers=True')
    parser.add_argument(
        '--out', type=Path, metavar='FILE.png', help='the plot (default: noise_loss.png in the work dir)'
    )


def main(args: argparse.Namespace) -> None:
    """Run the tool.

    Raises:
        UserError: If the folder has no log, or the log has no noise losses.
    """
    records = read_scalars(args.work_dir)
    if not records:
        raise UserError(f'{args.work_dir} has no log of a run (*/vis_data/scalars.json): give a work dir')
    out = args.out or args.work_dir / 'noise_loss.png'
    series = noise_series(records)
    plot_noise_losses(series, out)
    for name, (_, values) in series.items():
        logged = values[~np.isnan(values)]
        print(f'{name}: {logged[0]:.4f} -> {logged[-1]:.4f}')
    print(f'wrote {out}')


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
