"""Distil a small diffusion model into a small ResNet on MNIST-5k, and fine-tune the students with few and all labels.

The diffusion model is trained without labels, and its features are evaluated by a linear classifier every five epochs.
For each seed it then teaches students that differ in the selection of timesteps. They are compared with random weights
and with MoCo pre-training of equal time, after fine-tuning with 1, 10 and 100 percent of the labels. The reward of the
policy uses the labels of all training images.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from parts import run_parts, total_seconds
from records import Metric, Record, Row, environment, save_record
from runner import PRELOAD, ROOT, add_run_arguments, config_file, run, tool_job, train_job

from reprefine.engine.cli.jobs import Job
from reprefine.engine.cli.tool import run_as_tool

EXAMPLE = """example:
  python tools/experiments/repfusion.py --seeds 5 --out work_dirs/repfusion_demo
"""
TEACHER = 'repfusion/teacher/ddpm-small_60e_mnist5k-32px'
TEACHER_EPOCHS = 60
DISTILL = 'repfusion/distill/resnet14-narrow_repfusion-{}-hint_30e_mnist5k-32px'
# As many epochs as take the CPU time of the longest distillation.
MOCO_EPOCHS = 60
MOCO = 'baselines/selfsup/moco-v2_resnet14-narrow_12e_mnist5k'
FILE = 'configs/repfusion/results/mnist5k.json'


class Fraction(NamedTuple):
    """A fraction of the training labels.

    Attributes:
        name: Name in the table.
        key: Name of its metric.
        per_class: Number of labelled images per class.
        epochs: Number of epochs of the training with labels.
    """

    name: str
    key: str
    per_class: int
    epochs: int


FRACTIONS = (Fraction('1 %', 'labels1', 3, 100), Fraction('10 %', 'labels10', 30, 40), Fraction('100 %', 'all', 300, 5))
# Rows of the table by the name of their parts.
STARTS = dict(
    random='random weights',
    moco='MoCo, equal time',
    best='RepFusion, best t',
    uniform='RepFusion, uniform t',
    rl='RepFusion, RL',
)
METRICS = dict(
    r2=Metric('R², validation images', 3, compare=False),
    linear=Metric('linear, 1 %, accuracy in %'),
    **{fraction.key: Metric(f'fine-tuned, {fraction.name}') for fraction in FRACTIONS},
)


def teacher_jobs(out: Path) -> list[Job]:
    """Return the training of the teacher, and the evaluation of its features on the validation images."""
    product = f'epoch_{TEACHER_EPOCHS}.pth'
    teacher = train_job('teacher', config_file(TEACHER), out / 'teacher', product, arguments=['--amp'])
    arguments = [out / 'teacher', out / 'probe.json']
    log, product = out / 'probe.log', out / 'probe.json'
    return [teacher, tool_job('probe', 'experiments/repfusion_probe.py', arguments, log, ('teacher',), product)]


def pretrain_options(start: str, seed: int, source: str, best: int) -> dict[str, Any]:
    """Return the options of a pre-training.

    Args:
        start: A key of ``STARTS``.
        seed: Seed.
        source: Folder of the teacher.
        best: Timestep with the best features.
    """
    options = {'randomness.seed': seed}
    if start == 'moco':
        epochs = ('train_cfg.max_epochs', 'param_scheduler.0.T_max', 'param_scheduler.0.end')
        return options | dict.fromkeys(epochs, MOCO_EPOCHS)
    options['model.teacher.source'] = source
    if start == 'rl':
        return options | {'custom_hooks.1.seed': seed}
    if start == 'best':
        return options | {'model.timestep_source.timestep': best, 'model.eval_timesteps': [best]}
    return options | {'model.timestep_source.seed': seed}


def evaluate_start(start: str, options: dict[str, Any], seed: int, folder: str) -> dict[str, Any]:
    """Pre-train a network and fine-tune it with each fraction of the labels.

    Args:
        start: A key of ``STARTS``.
        options: Options of the pre-training, see :func:`pretrain_options`.
        seed: Seed of the fine-tuning.
        folder: Folder of the work dirs.

    Returns:
        Values by metric, the CPU time of the pre-training in seconds, and ``R^2`` at each validation.
    """
    from repfusion_students import build_runner, finetuned_accuracy, linear_accuracy

    config = DISTILL.format(dict(best='fixed', random='uniform').get(start, start))
    runner = build_runner(MOCO if start == 'moco' else config, options, Path(folder, 'pretrain'))
    begin = time.process_time()
    if start == 'random':
        runner.model.init_weights()
    else:
        runner.train()
    values: dict[str, Any] = dict(cpu_seconds=round(time.process_time() - begin, 1))
    if start not in ('random', 'moco'):
        values['r2_curve'] = [round(float(r2), 4) for r2 in runner.message_hub.get_scalar('val/r2/mean').data[0]]
        values['r2'] = values['r2_curve'][-1]
    values['linear'] = linear_accuracy(runner.model, FRACTIONS[0].per_class, seed)
    prefix = 'backbone.' if start == 'moco' else 'student.backbone.'
    for fraction in FRACTIONS:
        values[fraction.key] = finetuned_accuracy(
            runner.model, fraction.per_class, fraction.epochs, seed, Path(folder), prefix
        )
    return values


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    add_run_arguments(parser, 'work_dirs/repfusion_demo')
    parser.add_argument('--record', type=Path, default=ROOT / FILE, help=f'record to write (default: {FILE})')


def main(args: argparse.Namespace) -> None:
    """Run what is not finished and write the record.

    Raises:
        UserError: If a part fails.
    """
    out, seeds = args.out.absolute(), list(range(args.seeds))
    args.out = out
    run(teacher_jobs(out), args, (*PRELOAD, 'diffusers'))
    probe = json.loads((out / 'probe.json').read_text())
    print(f'timestep with the best linear probe: {probe["best"]}')
    parts = {}
    for seed in seeds:
        for start in STARTS:
            options = pretrain_options(start, seed, str(out / 'teacher/teacher'), probe['best'])
            parts[f'{start}_seed{seed}'] = (start, options, seed, str(out / f'{start}_{seed}'))
    values = run_parts(evaluate_start, parts, out / 'parts', args.jobs)
    save_record(args.record, make_record(values, probe, seeds))
    print(args.record)


def make_record(values: dict[str, dict], probe: dict[str, Any], seeds: Sequence[int]) -> Record:
    """Return the record.

    Args:
        values: Values of :func:`evaluate_start` by part.
        probe: Content of the file of ``repfusion_probe.py``.
        seeds: The seeds.
    """
    rows = []
    for start, name in STARTS.items():
        parts = [values[f'{start}_seed{seed}'] for seed in seeds]
        columns = {metric: [part[metric] for part in parts] for metric in METRICS if metric in parts[0]}
        rows.append(Row(name, columns, None if start == 'random' else STARTS['random']))
    curves = {start: values[f'{start}_seed{seeds[0]}']['r2_curve'] for start in ('best', 'uniform', 'rl')}
    cpu = {start: sum(values[f'{start}_seed{seed}']['cpu_seconds'] for seed in seeds) / len(seeds) for start in STARTS}
    return Record(
        title='RepFusion with a small diffusion model, and fine-tuning with 1, 10 and 100 % of the labels',
        kind='end to end',
        data='MNIST-5k: 3,000 training, 1,000 validation and 1,000 test images',
        seeds=list(seeds),
        metrics=METRICS,
        rows=rows,
        minutes=round(total_seconds(values) / 60, 1),
        threads=1,
        notes=dict(
            **{key: probe[key] for key in ('best', 'by_timestep', 'by_epoch')},
            r2_of_the_first_seed=curves,
            cpu_seconds_of_pre_training={start: round(seconds) for start, seconds in cpu.items()},
        ),
        **environment(),
    )


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
