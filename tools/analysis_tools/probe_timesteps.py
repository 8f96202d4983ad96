"""Evaluate the features of a diffusion teacher over a grid of timesteps: linear probe and effective rank."""

import argparse
from pathlib import Path

from reprefine.engine.cli.launch import add_config_arguments
from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.errors import UserError

EXAMPLE = """example:
  python tools/analysis_tools/probe_timesteps.py CONFIG --steps 21 --images 2000 --out probe.png \\
      --run work_dirs/repfusion/distill/resnet18-cifar_repfusion-rl-hint_200e_cifar10

The published ranks, of whole maps at 12 timesteps:
  python tools/analysis_tools/probe_timesteps.py \\
      configs/repfusion/distill/resnet18-cifar_repfusion-rl-hint-published_200e_cifar10.py --whole-maps \\
      --images 10000 --timesteps 0 1 2 5 8 10 20 50 300 500 900 999 --out ranks.png --csv ranks.csv"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('config', help='config of a distillation; its training images are used')
    parser.add_argument('--steps', type=int, default=21, help='number of timesteps, evenly from 0 to the last')
    parser.add_argument('--timesteps', nargs='+', type=int, metavar='T', help='these timesteps instead')
    parser.add_argument(
        '--whole-maps',
        action='store_true',
        help='compute the rank of feature maps with all positions instead of their means',
    )
    parser.add_argument('--images', type=int, default=1000, help='number of images')
    parser.add_argument('--run', metavar='DIR', help='run whose timesteps are plotted in the background')
    parser.add_argument('--device', default='cpu', help='torch device')
    parser.add_argument('--seed', type=int, default=0, help='seed of images and split')
    parser.add_argument('--out', type=Path, default=Path('probe.png'), help='FILE.png or FILE.pdf')
    parser.add_argument('--csv', type=Path, metavar='FILE', help='also write the values')
    add_config_arguments(parser)


def main(args: argparse.Namespace) -> None:
    """Evaluate, plot and write the files.

    Raises:
        UserError: If the config has no teacher, or a timestep does not exist.
    """
    import numpy as np
    from mmengine.runner import set_random_seed

    from reprefine.engine.build import build_model
    from reprefine.engine.cli.launch import load_config
    from reprefine.engine.runner import Runner
    from reprefine.methods.repfusion.functional import check_timesteps
    from reprefine.methods.repfusion.plot import plot_probe
    from reprefine.methods.repfusion.policy.histogram import read_histogram
    from reprefine.methods.repfusion.teacher.linear_probe import load_images, probe_timesteps
    from reprefine.visualization.figures import save_figure

    cfg = load_config(args.config, args.cfg_options, args.data_root)
    chosen = None if args.run is None else read_histogram(args.run).counts.sum(axis=0)
    set_random_seed(args.seed)
    model = build_model(cfg).to(args.device)
    teacher = getattr(model, 'teacher', None)
    if not hasattr(teacher, 'num_timesteps'):
        raise UserError(f'{args.config} has no diffusion teacher: give a config of configs/repfusion/distill')
    grid = args.timesteps or np.linspace(0, teacher.num_timesteps - 1, max(args.steps, 1)).round().astype(int).tolist()
    check_timesteps(grid, teacher.num_timesteps, '--timesteps')
    loader = Runner.build_dataloader({**cfg.train_dataloader, 'num_workers': 0, 'persistent_workers': False}, args.seed)
    images, labels = load_images(model, loader, args.images)
    results = probe_timesteps(teacher, images, labels, grid, args.seed, args.whole_maps)
    print(f'{len(images)} images, layer {teacher.recorder.paths[-1]}, noise_mode {teacher.noise_mode}')
    print(f'{"t":>5} {"probe (%)":>10} {"rank":>8} of {results[0].width}')
    for row in results:
        print(f'{row.timestep:5d} {row.accuracy:10.2f} {row.rank:8.1f}')
    save_figure(plot_probe(*zip(*[row[:3] for row in results], strict=True), chosen), args.out)
    print(f'wrote {args.out}')
    if args.csv:
        write_csv(results, args.csv)


def write_csv(results: list, path: Path) -> None:
    """Write the values as CSV."""
    import csv

    from reprefine.engine.files import atomic_write

    with atomic_write(path) as partial, open(partial, 'w', newline='') as file:
        csv.writer(file).writerows([results[0]._fields, *results])
    print(f'wrote {path}')


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
