"""Visualize the gallery images that a ReID checkpoint ranks first for some queries."""

import argparse
import tempfile
from pathlib import Path

from reprefine.engine.checkpoints.rename_keys import add_key_arguments
from reprefine.engine.cli.launch import add_config_arguments
from reprefine.engine.cli.test import add_test_arguments, test
from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.errors import UserError
from reprefine.tasks.reid.plot import plot_ranking
from reprefine.tasks.reid.predictions import Predictions

EXAMPLE = """example:
  python tools/visualizations/vis_ranking.py CONFIG.py epoch_120.pth --out ranking.png --topk 10 --num 8

A row starts with the query. Gallery images are framed green if they show the same identity and red if not; those with
the identity and camera of the query are excluded. The title of an image is its identity, and its camera from 1."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('config', help='config file of a ReID model')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE.png', help='image file to write')
    parser.add_argument('--topk', type=int, default=10, metavar='K', help='gallery images of each query')
    parser.add_argument('--num', type=int, default=8, metavar='N', help='number of queries, spread over all')
    parser.add_argument('--work-dir', help='folder for the log (default: mirrors the path of the config)')
    add_key_arguments(parser)
    add_config_arguments(parser)


def main(args: argparse.Namespace) -> None:
    """Run the tool."""
    if min(args.topk, args.num) < 1:
        raise UserError('--topk and --num must be positive')
    if args.out.suffix != '.png':
        raise UserError(f'--out {args.out}: give a .png file')
    with tempfile.TemporaryDirectory() as folder:
        features = Path(folder, 'features.npz')
        test(test_arguments(args, features))
        hits = plot_ranking(Predictions.load(features), args.out, args.topk, args.num)
    print(f'{args.out}: {len(hits)} queries, {sum(hits)} with the correct identity first')


def test_arguments(args: argparse.Namespace, features: Path) -> argparse.Namespace:
    """Return arguments of tools/test.py with which the metric writes the features of all test images."""
    parser = argparse.ArgumentParser()
    add_test_arguments(parser)
    options = {**(args.cfg_options or {}), 'test_evaluator.out_file': str(features)}
    values = dict(
        work_dir=args.work_dir,
        data_root=args.data_root,
        cfg_options=options,
        checkpoint_key=args.checkpoint_key,
        revise_keys=args.revise_keys,
    )
    return parser.parse_args([args.config, args.checkpoint], argparse.Namespace(**values))


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
