"""Plot the learning rate or momentum schedule of a config."""

import argparse
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from reprefine.engine.cli.launch import add_config_arguments, default_work_dir, load_config
from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.cost.models import build_untrained
from reprefine.engine.errors import UserError
from reprefine.visualization.schedule import compute_schedule, epoch_length, plot_schedule

EXAMPLE = """example:
  python tools/visualizations/vis_scheduler.py configs/baselines/classification/vit-tiny_digits.py \\
      --dataset-size 1437 --out lr.png"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('config', help='config file')
    parser.add_argument('--parameter', choices=['lr', 'momentum'], default='lr', help='what to plot')
    parser.add_argument('--out', type=Path, metavar='FILE.png', help='the plot (default: in the work dir)')
    parser.add_argument('--dataset-size', type=int, metavar='N', help='training images (default: count the dataset)')
    parser.add_argument('--ngpus', type=int, default=1, metavar='N', help='number of training processes')
    add_config_arguments(parser)


def main(args: argparse.Namespace) -> None:
    """Run the tool."""
    out = args.out or Path(default_work_dir(args.config), f'{args.parameter}.png')
    if out.suffix != '.png':
        raise UserError(f'--out {out}: give a .png file')
    if args.ngpus < 1 or (args.dataset_size is not None and args.dataset_size < 1):
        raise UserError('--ngpus and --dataset-size must be positive')
    cfg = load_config(args.config, args.cfg_options, args.data_root)
    schedule = compute_schedule(cfg, build_untrained(cfg), iterations_per_epoch(cfg, args), args.parameter)
    plot_schedule(schedule, Path(args.config).stem, out)
    print(f'{len(next(iter(schedule.curves.values())))} iterations; wrote {out}')


def iterations_per_epoch(cfg: Config, args: argparse.Namespace) -> int:
    """Return the iterations per epoch; the dataset is built only if the schedule depends on its size."""
    loader = cfg.get('train_dataloader') or {}
    if 'max_epochs' not in (cfg.get('train_cfg') or {}) and args.dataset_size is None:
        return 1
    size = args.dataset_size or count_images(cfg)
    return epoch_length(size, loader.get('batch_size', 1), args.ngpus, loader.get('drop_last', False))


def count_images(cfg: Config) -> int:
    """Build the training set and return its number of images."""
    try:
        return len(Runner.build_dataloader(dict(cfg.train_dataloader, num_workers=0, persistent_workers=False)).dataset)
    except (OSError, AssertionError) as error:
        raise UserError(f'training data not found ({error}); give --dataset-size N or --data-root DIR') from error


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
