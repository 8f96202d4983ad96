"""Train a small ResNet-18 with PD-A, PD-B and AC on MNIST-5k and on 300 of its images, and compare with two controls.

The recipe is a tenth of PDDR's for ImageNet. One control is the plain network, the other the plain network with PD-A's
output and step size at the start (`pddr_matched_start.py`).
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

from records import ROOT, Metric, Record, Row, environment, save_record
from runner import add_run_arguments, config_file, run, test_job, tool_job, train_job

from reprefine.engine.cli.jobs import Job
from reprefine.engine.cli.tool import run_as_tool

EXAMPLE = """example:
  python tools/experiments/pddr.py --seeds 5 --jobs 2    # the same command continues after an interruption
"""
NETWORK = 'classification/resnet18-w32{}_10e_mnist5k'
PDA = f'pddr/{NETWORK.format("-pda")}'
PLAIN, MATCHED = 'plain', 'plain, start and step size of PD-A'
CONFIGS = {
    PLAIN: f'baselines/{NETWORK.format("")}',
    MATCHED: f'baselines/{NETWORK.format("-norm-lr5")}',
    'AC': f'pddr/{NETWORK.format("-ac")}',
    'PD-A': PDA,
    'PD-B': f'pddr/{NETWORK.format("-pdb")}',
}
METRIC = 'accuracy/top1'


class Size(NamedTuple):
    """A number of training images; the number of iterations is about the same for all.

    Attributes:
        images: Number of training images.
        per_class: Number of images per class, None for all.
        factor: Factor of the numbers of epochs.
    """

    images: int
    per_class: int | None
    factor: int

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        return 10 * self.factor

    def options(self, seed: int) -> list[str]:
        """Return the values of ``--cfg-options``; each seed has images of its own."""
        if self.per_class is None:
            return []
        milestones = ','.join(str(self.factor * epoch) for epoch in (3, 6, 9))
        return [
            f'train_dataloader.dataset.per_class={self.per_class}',
            f'train_dataloader.dataset.subset_seed={seed}',
            f'train_cfg.max_epochs={self.epochs}',
            f'train_cfg.val_interval={self.epochs}',
            f'default_hooks.checkpoint.interval={self.epochs}',
            f'param_scheduler.milestones=[{milestones}]',
        ]


SIZES = (Size(3000, None, 1), Size(300, 30, 10))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    add_run_arguments(parser, 'work_dirs/pddr')
    default = ROOT / 'configs/pddr/results/resnet18_mnist5k.json'
    parser.add_argument('--result', type=Path, default=default, help='record to write')
    parser.add_argument('--sizes', type=int, nargs='+', choices=[s.images for s in SIZES], help='default: all')


def work_dir(out: Path, size: Size, label: str, seed: int) -> Path:
    """Return the work dir of a run."""
    return out / f'{Path(CONFIGS[label]).stem}_{size.images}-images_seed{seed}'


def make_jobs(out: Path, size: Size, label: str, seed: int) -> list[Job]:
    """Return the jobs of one network: the start if it is matched, training and test."""
    folder, config = work_dir(out, size, label, seed), config_file(CONFIGS[label])
    name, options = f'{label}, {size.images} images, seed {seed}', size.options(seed)
    checkpoint = folder / f'epoch_{size.epochs}.pth'
    starts, start_options = [], []
    if label == MATCHED:
        # Beside the work dir, in which it would be taken for a checkpoint to resume from.
        start = out / 'starts' / f'{folder.name}.pth'
        arguments = [config_file(PDA), start, '--seed', seed, *(['--cfg-options', *options] if options else [])]
        log = start.with_suffix('.log')
        starts = [tool_job(f'start {name}', 'experiments/pddr_matched_start.py', arguments, log, product=start)]
        start_options = [f'load_from={start}']
    options = [f'randomness.seed={seed}', *options]
    train = train_job(
        f'train {name}',
        config,
        folder,
        checkpoint.name,
        [*options, *start_options],
        after=[job.name for job in starts],
    )
    test = test_job(f'test {name}', config, checkpoint, folder / 'test.json', options, after=[train.name])
    return [*starts, train, test]


def make_record(args: argparse.Namespace, sizes: list[Size], seconds: float) -> Record:
    """Return the record of finished runs.

    Args:
        args: Arguments of the tool.
        sizes: Numbers of images.
        seconds: Seconds that all trainings took together.
    """
    rows, seeds = [], list(range(args.seeds))
    for label in CONFIGS:
        values = {}
        for size in sizes:
            files = [work_dir(args.out, size, label, seed) / 'test.json' for seed in seeds]
            values[f'images{size.images}'] = [json.loads(file.read_text())[METRIC] for file in files]
        rows.append(Row(label, values, None if label == PLAIN else PLAIN))
    metrics = {f'images{s.images}': Metric(f'test accuracy, {s.images:,} training images (%)') for s in sizes}
    data = 'MNIST-5k: 3,000 or 300 training images, 1,000 test images'
    title = 'ResNet-18 of half the width and three stages, with PDDR and two controls'
    shared = dict(kind='end to end', data=data, seeds=seeds, metrics=metrics, rows=rows, threads=args.jobs)
    return Record(title=title, minutes=seconds / 60, **shared, **environment())


def main(args: argparse.Namespace) -> None:
    """Run what is missing and write the record."""
    sizes = [size for size in SIZES if not args.sizes or size.images in args.sizes]
    runs = [(size, label, seed) for seed in range(args.seeds) for size in sizes for label in CONFIGS]
    run([job for size, label, seed in runs for job in make_jobs(args.out, size, label, seed)], args)
    from reprefine.visualization.results import read_scalars, seconds_of_training

    seconds = sum(seconds_of_training(read_scalars(work_dir(args.out, *part))) for part in runs)
    save_record(args.result, make_record(args, sizes, seconds))


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
