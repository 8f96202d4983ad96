"""Read every sample of a config's datasets once, list unreadable and mislabelled samples, and count the classes."""

import argparse
from collections import Counter
from pathlib import Path

from rich.progress import track

from reprefine.engine.cli.launch import DATALOADERS, add_config_arguments, load_config
from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.data_checks.data_root import check_data_folders
from reprefine.engine.data_checks.unreadable import data_errors_as_user_error
from reprefine.engine.data_checks.verify import build_datasets, format_class_counts, verify_samples
from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write

EXAMPLE = """example:
  python tools/misc/verify_dataset.py configs/baselines/detection/retinanet_r50_fpn_1x_coco.py --workers 8"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('config', help='config file')
    parser.add_argument('--workers', type=int, default=2, help='number of processes (default: 2)')
    parser.add_argument('--out', type=Path, help='file to write with the list of unreadable and mislabelled samples')
    add_config_arguments(parser)


def main(args: argparse.Namespace) -> None:
    """Run the tool; unreadable and mislabelled samples end it with exit code 1."""
    cfg = load_config(args.config, args.cfg_options, args.data_root)
    check_data_folders(cfg, DATALOADERS)
    lines = []
    with data_errors_as_user_error():
        for path, dataset in build_datasets(cfg):
            before, labels = len(lines), Counter()
            for error, found in track(verify_samples(dataset, args.workers), description=path, total=len(dataset)):
                labels.update(found)
                if error is not None:
                    lines.append(f'{path}[{error.index}] {" ".join(error.files)}: {error.reason}')
                    print(lines[-1])
            print(f'{path}: {len(dataset):,} samples read, {len(lines) - before:,} unreadable or mislabelled')
            print(f'{path}: {format_class_counts(dataset, labels)}')
    with atomic_write(args.out) as file:
        if file:
            Path(file).write_text(''.join(f'{line}\n' for line in lines))
    if lines:
        raise UserError(
            f'{len(lines):,} samples are unreadable or have an invalid label: fix them, or remove them from the lists'
        )


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
