"""Compare which layers DenoiseRep denoises, and at which timesteps, on real images beside an equal-budget control.

Each row changes one setting of the demo's DenoiseRep run. The runs of the same seed share their baseline.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from run import jobs_of, prepare, run_all
from variants import BASELINE, CONTROL, DATASETS, DENOISEREP, ROOT, Variant

from reprefine.engine.errors import run_cli
from reprefine.visualization.results import markdown_table, mean_std, paired_difference

EXAMPLE = """example:
  python tools/demo/ablate.py --dataset mnist5k --seeds 3
"""
HEADER = ('layers', 'timesteps', 'test accuracy (%)', 'minus control')


def _variant(layers: str, timesteps: str, **settings: object) -> tuple[str, str, Variant]:
    name = '-'.join([layers, timesteps]).replace(' ', '').replace('.', '')
    options = tuple(f'model.{key}={value}' for key, value in settings.items())
    return layers, timesteps, replace(DENOISEREP, name=name, label=name, options=options)


ROWS = (
    _variant('mlp', 'descending'),
    _variant('attn', 'descending', include='attn'),
    _variant('linear', 'descending', include='linear'),
    _variant('all', 'descending', include='all'),
    _variant('last', 'descending', include='last'),
    _variant('mlp', 'ascending', timestep='ascending'),
    _variant('mlp', 'reference', timestep='reference'),
    _variant('mlp', '26 everywhere', timestep=26),
    _variant('mlp', '999 everywhere', timestep=999),
)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--dataset', choices=DATASETS, default='digits')
    parser.add_argument('--seeds', type=int, default=3, help='number of repetitions')
    parser.add_argument('--jobs', type=int, default=2, help='processes at a time')
    parser.add_argument('--out', type=Path, default=ROOT / 'work_dirs/ablation', help='output folder')
    parser.add_argument('--resume', action='store_true', help='go on with an interrupted run')
    return parser


def main(args: argparse.Namespace) -> None:
    """Run all jobs and write the table.

    Raises:
        UserError: If the output folder is somebody else's, or a step fails.
    """
    prepare(args.out, args.resume)
    seeds = range(args.seeds)
    variants = [BASELINE, CONTROL, *(variant for _, _, variant in ROWS)]
    run_all(
        [job for v in variants for seed in seeds for job in jobs_of(v, seed, args.out, args.dataset)],
        args.jobs,
        args.out,
    )
    text = table(args.out, args.seeds)
    (args.out / 'ablation.md').write_text(f'{text}\n')
    print(text)


def table(out: Path, seeds: int) -> str:
    """Return the table of all rows, from the results below ``out``."""

    def accuracy(variant: Variant) -> list[float]:
        files = (variant.folder(out, seed) / 'test.json' for seed in range(seeds))
        return [json.loads(file.read_text())['accuracy/top1'] for file in files]

    control = accuracy(CONTROL)
    fixed = [(name, '-', accuracy(v)) for name, v in (('baseline', BASELINE), ('control, no denoiser', CONTROL))]
    rows = [*fixed, *((layers, timesteps, accuracy(variant)) for layers, timesteps, variant in ROWS)]
    cells = [
        (layers, timesteps, mean_std(values), '-' if values == control else paired_difference(values, control))
        for layers, timesteps, values in rows
    ]
    return markdown_table(HEADER, cells)


if __name__ == '__main__':
    sys.exit(run_cli(main, make_parser()))
