"""Ablation of the layers and timesteps of DenoiseRep, with a control of equal budget.

Each row changes one setting of the run of denoiserep.py. The runs of the same seed share their baseline.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from denoiserep import make_jobs
from denoiserep_variants import BASELINE, CONTROL, DATASETS, DENOISEREP, Variant
from runner import add_run_arguments, prepare_folder, run, save_report

from reprefine.engine.build import load_trained
from reprefine.engine.cli.launch import load_config
from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.cost.models import quiet_log
from reprefine.engine.runner import Runner
from reprefine.visualization.results import markdown_table, mean_std, paired_difference

EXAMPLE = """example:
  python tools/experiments/denoiserep_ablation.py --dataset mnist5k --seeds 3
"""
HEADER = ('layers', 'timesteps', 'test accuracy (%)', 'test cross entropy', 'minus control')


def _variant(layers: str, timesteps: str, **settings: object) -> tuple[str, str, Variant]:
    name = '-'.join([layers, timesteps]).replace(' ', '').replace('.', '')
    options = tuple(f'model.denoise.{key}={value}' for key, value in settings.items())
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('--dataset', choices=DATASETS, default='digits')
    add_run_arguments(parser, 'work_dirs/ablation', seeds=3)
    parser.add_argument('--resume', action='store_true', help='continue an interrupted experiment')


def main(args: argparse.Namespace) -> None:
    """Run all jobs and write the table.

    Raises:
        UserError: If the output folder has other content, or a job fails.
    """
    prepare_folder(args.out, args.resume)
    seeds = range(args.seeds)
    variants = [BASELINE, CONTROL, *(variant for _, _, variant in ROWS)]
    jobs = [job for v in variants for seed in seeds for job in make_jobs(v, seed, args.out, args.dataset)]
    run(jobs, args, resume=('--resume',))
    save_report(make_table(args.out, args.dataset, args.seeds), args.out / 'ablation.md')


def make_table(out: Path, dataset: str, seeds: int) -> str:
    """Return the Markdown table of all rows from the results in ``out``."""
    fixed = [(name, '-', v) for name, v in (('baseline', BASELINE), ('control, no noise predictor', CONTROL))]
    cells = []
    control = [test_loss(CONTROL.tested_checkpoint(out, seed), dataset) for seed in range(seeds)]
    for layers, timesteps, variant in (*fixed, *ROWS):
        files = (variant.work_dir(out, seed) / 'test.json' for seed in range(seeds))
        accuracy = [json.loads(file.read_text())['accuracy/top1'] for file in files]
        losses = [test_loss(variant.tested_checkpoint(out, seed), dataset) for seed in range(seeds)]
        difference = '-' if variant is CONTROL else paired_difference(losses, control, digits=4)
        cells.append((layers, timesteps, mean_std(accuracy), mean_std(losses, digits=4), difference))
    return markdown_table(HEADER, cells)


@torch.no_grad()
def test_loss(checkpoint: Path, dataset: str) -> float:
    """Return the mean cross entropy of a checkpoint over the test images, with the network of the baseline."""
    cfg = load_config(str(BASELINE.config_file(dataset)))
    with quiet_log():
        model = load_trained(cfg, str(checkpoint))
    total, count = 0.0, 0
    for batch in Runner.build_dataloader(dict(cfg.test_dataloader, num_workers=0, persistent_workers=False)):
        data = model.data_preprocessor(batch)
        total += len(data['inputs']) * model(**data, mode='loss')['loss'].item()
        count += len(data['inputs'])
    return total / count


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
