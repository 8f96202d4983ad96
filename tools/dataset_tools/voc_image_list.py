"""List the images of VOC2012 and VOC2007 outside the segmentation validation sets, for per-image denoising."""

import argparse
from pathlib import Path

import numpy as np

from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.files import atomic_write
from reprefine.tasks.segmentation.prepare import YEARS, mixed_list, train_images

EXAMPLE = """example:
  python tools/dataset_tools/voc_image_list.py data/VOCdevkit --out data/VOCdevkit/voc_train.txt"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('data_root', type=Path, help='the VOCdevkit folder')
    parser.add_argument(
        '--out', type=Path, required=True, help='file to write, with one path relative to VOCdevkit per line'
    )
    parser.add_argument(
        '--style',
        choices=('mixed', 'upstream-like'),
        default='mixed',
        help='shuffle both years together, or 2012 before 2007 as in the published list (default: mixed)',
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of the order (default: 0)')


def main(args: argparse.Namespace) -> None:
    """Run the tool."""
    years = [train_images(args.data_root, year) for year in YEARS]
    images = mixed_list(years, args.style, np.random.default_rng(args.seed))
    with atomic_write(args.out) as file:
        Path(file).write_text(''.join(f'{image}\n' for image in images))
    counts = ', '.join(f'{len(year):,} of {name}' for year, name in zip(years, YEARS, strict=True))
    print(f'{args.out}: {len(images):,} images, {counts} (the complete datasets give 15,676 and 4,798)')


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
