"""Benchmark DVT's stage 1: time of hash grid, feature extraction and solvers, and recovery of synthetic features."""

import argparse
from collections.abc import Iterator
from math import isnan
from statistics import median

from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.errors import UserError

EXAMPLE = """examples:
  python tools/analysis_tools/bench_dvt_stage1.py hash recovery
  python tools/analysis_tools/bench_dvt_stage1.py throughput --grid 37 --channels 768 --views 768 --steps 10

Prints Markdown tables. The throughput of the field is the time of one step times the steps of the profile "paper"; the
recovery runs complete fits with the profile "cpu"."""
WHAT = ('hash', 'recovery', 'throughput', 'extraction')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('what', nargs='+', choices=WHAT, help='what to measure')
    parser.add_argument('--grid', type=int, default=37, help='tokens along an axis (throughput)')
    parser.add_argument('--channels', type=int, default=768, help='channels of the features (throughput)')
    parser.add_argument('--views', type=int, default=768, help='random views per image (throughput)')
    parser.add_argument('--steps', type=int, default=10, help='timed steps of Adam (throughput)')
    parser.add_argument('--images', type=int, default=2, help='images fitted together (throughput)')
    parser.add_argument(
        '--model', default='vit_base_patch14_dinov2.lvd142m', help='backbone, with random weights (extraction)'
    )
    parser.add_argument('--size', type=int, default=518, help='side of the input images in pixels (extraction)')
    parser.add_argument('--repeats', type=int, default=5, help='timed repetitions')
    parser.add_argument('--seeds', type=int, default=1, help='seeds of synthetic images (recovery)')


def main(args: argparse.Namespace) -> None:
    """Measure and print the tables."""
    import torch

    from reprefine.visualization.results import markdown_table

    if min(args.steps, args.repeats, args.seeds, args.images, args.views) < 1 or args.steps < 6:
        raise UserError('--views, --images, --repeats and --seeds must be at least 1, --steps at least 6')
    measures = dict(hash=hash_rows, recovery=recovery_rows, throughput=throughput_rows, extraction=extraction_rows)
    for name in args.what:
        torch.manual_seed(0)
        header, *rows = measures[name](args)
        print(f'\n{name}, {torch.get_num_threads()} threads\n')
        print(markdown_table(header, rows), flush=True)


def hash_rows(args: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the hash grid."""
    from dvt_stage1 import measurements

    one, many, difference = measurements.hash_grid_seconds(args.repeats)
    ratio = median(slow / fast for fast, slow in zip(one, many, strict=True))
    yield ('encoding and gradient, 2048 points', 'seconds', 'relative')
    yield ('level by level', f'{median(many):.3f}', '1')
    yield ('one look-up', f'{median(one):.3f}', f'1/{ratio:.1f}')
    yield ('largest difference of the gradients', f'{difference:.0e}', '')


def recovery_rows(args: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the recovery of synthetic features."""
    from dvt_stage1 import measurements

    from reprefine.visualization.results import mean_std

    yield ('features', 'solver', 'seconds', 'relative', 'correlation F', 'correlation G')
    for case in measurements.CASES:
        runs = [list(measurements.recovery(case, seed)) for seed in range(args.seeds)]
        adam = median(run[1][1] for run in runs)
        for rows in zip(*runs, strict=True):
            seconds = median(row[1] for row in rows)
            relative = f'1/{adam / seconds:.0f}' if seconds else ''
            semantics, artifact = ([row[column] for row in rows] for column in (2, 3))
            correlation = '' if isnan(artifact[0]) else mean_std(artifact, 4)
            yield (case, rows[0][0], f'{seconds:.2f}', relative, mean_std(semantics, 4), correlation)


def throughput_rows(args: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the solvers at full size."""
    import torch
    from dvt_stage1 import measurements
    from dvt_stage1.synthetic import synthetic_views

    from reprefine.methods.dvt.stage1.solvers.field_solver import PROFILES

    data = synthetic_views(torch.Generator().manual_seed(0), args.channels, args.grid, args.views, 'endpoint')
    paper = PROFILES['paper']
    one, several = (measurements.step_seconds(data, count, paper, args.steps) for count in (1, args.images))
    setup, solve = measurements.closed_form_seconds(data, max(args.repeats // 3, 1))
    yield ('solver', 'seconds a step and image', 'seconds an image', 'relative')
    for name, seconds in (('Adam, one image', one), (f'Adam, {args.images} images together', several)):
        total = seconds * paper.iterations
        yield (f'{name}, {paper.iterations} steps', f'{seconds:.3f}', f'{total:.0f}', f'{seconds / one:.2f}')
    yield ('closed form', '', f'{solve:.2f}', f'1/{one * paper.iterations / solve:.0f}')
    yield ('closed form, set-up of all images', '', f'{setup:.1f}', '')


def extraction_rows(args: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    """Yield the rows of feature extraction."""
    from dvt_stage1 import measurements

    from reprefine.models.timm_vit import TimmViT

    backbone = TimmViT(args.model)
    seconds = measurements.extraction_seconds(backbone, args.size, backbone.patch_size, 7)
    yield ('features', 'seconds a view', f'seconds an image of {args.views + 1} views')
    yield (f'{args.model}, {args.size} pixels', f'{seconds:.2f}', f'{seconds * (args.views + 1):.0f}')


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
