"""Convert NYU depth v2 to the layout of mmseg.

The release has the folders sync and official_splits, and lists with image, depth map and focal length in each line. It
is only read: the output consists of hard links, or of copies on another file system. Run it again to continue an
interrupted call.
"""

import argparse
from pathlib import Path

from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.errors import UserError

EXAMPLE = """example:
  python tools/dataset_tools/prepare_nyu.py downloads/nyu_depth_v2 --out data/nyu \\
      --train-list nyudepthv2_train_files_with_gt.txt --test-list nyudepthv2_test_files_with_gt.txt"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('source', type=Path, help='folder of the release')
    parser.add_argument('--out', type=Path, required=True, help='folder to write to')
    parser.add_argument('--train-list', type=Path, help='list of the training pairs')
    parser.add_argument('--test-list', type=Path, help='list of the test pairs')


def main(args: argparse.Namespace) -> None:
    """Run the tool."""
    from reprefine.tasks.depth.prepare import prepare

    lists = {'train': args.train_list, 'test': args.test_list}
    if not any(lists.values()):
        raise UserError('give --train-list, --test-list or both')
    for split, file in lists.items():
        if file is not None:
            print(f'{args.out}/images/{split}: {prepare(args.source, args.out, split, file):,} images with depth')


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
