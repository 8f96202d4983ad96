"""Visualize the images of a dataset with their annotations, before and after the pipeline of a config."""

import argparse
from pathlib import Path

from rich.progress import track

from reprefine.engine.cli.launch import add_config_arguments, default_work_dir, load_config
from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.errors import UserError
from reprefine.visualization.browse import MODES, DatasetBrowser
from reprefine.visualization.images import write_png

EXAMPLE = """example:
  python tools/visualizations/browse_dataset.py configs/baselines/classification/vit-tiny_digits.py \\
      --show-number 8 --mode pipeline"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('config', help='config file')
    parser.add_argument('--output-dir', type=Path, help='folder of the PNG files (default: browse/ in the work dir)')
    parser.add_argument('--phase', choices=['train', 'val', 'test'], default='train', help='which dataset')
    parser.add_argument('--show-number', type=int, metavar='N', help='number of images (default: all)')
    parser.add_argument(
        '--mode',
        choices=MODES,
        default='transformed',
        help='image as loaded, as transformed, both, or after every transform',
    )
    add_config_arguments(parser)


def main(args: argparse.Namespace) -> None:
    """Run the tool."""
    if args.show_number is not None and args.show_number < 1:
        raise UserError(f'--show-number {args.show_number}: give a positive number')
    folder = args.output_dir or Path(default_work_dir(args.config), 'browse')
    if folder.exists() and not folder.is_dir():
        raise UserError(f'--output-dir {folder} is a file; give a folder')
    browser = DatasetBrowser(load_config(args.config, args.cfg_options, args.data_root), args.phase)
    count = min(args.show_number or len(browser), len(browser))
    for index in track(range(count), f'drawing {args.phase} images'):
        image = browser.draw(index, args.mode)
        write_png(image, folder / f'{args.phase}_{args.mode}_{browser.name(index)}.png')
    print(f'wrote {count} images to {folder}')


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
