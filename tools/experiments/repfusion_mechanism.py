"""Check the distillation and the policy of RepFusion with a teacher that is known to be useful, on MNIST-5k.

The teacher is a classifier that was trained with all labels. A student must learn its features, and then need few
labels; a teacher with random weights must not help. For the policy the teacher is useful at one of 20 timesteps,
another one for each seed, and has the features of other images at all others: the policy must find the one.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parts import run_parts, total_seconds
from records import Metric, Record, Row, environment, save_record
from runner import ROOT, add_run_arguments, config_file

from reprefine.engine.cli.tool import run_as_tool

EXAMPLE = """example:
  python tools/experiments/repfusion_mechanism.py --seeds 5
"""
CLASSIFIER = 'baselines/classification/resnet14-narrow_5e_mnist5k-32px'
DISTILL = 'repfusion/distill/resnet14-narrow_repfusion-{}-hint_30e_mnist5k-32px'
TIMESTEPS = 20
PER_CLASS = 3
FILE = 'configs/repfusion/results/mechanism.json'


@dataclass(frozen=True)
class Setting:
    """A student.

    Attributes:
        name: Name of the row.
        key: Name of its parts.
        is_distilled: Whether it has a teacher at all.
        is_trained: Whether the teacher is the trained classifier, or one with random weights.
        is_useful_once: Whether the teacher is useful at one timestep only.
        policy: ``'on'``, ``'off'`` for uniform timesteps by the same hook, or None for a uniform timestep source.
        control: Name of the row that it is compared with.
    """

    name: str
    key: str
    is_distilled: bool = True
    is_trained: bool = True
    is_useful_once: bool = False
    policy: str | None = None
    control: str | None = 'random weights'


SETTINGS = (
    Setting('random weights', 'random', is_distilled=False, is_trained=False, control=None),
    Setting('distilled from a network with random weights', 'untrained', is_trained=False),
    Setting('distilled from a trained network', 'trained'),
    Setting('one useful t, policy switched off', 'off', is_useful_once=True, policy='off', control=None),
    Setting(
        'one useful t, policy', 'on', is_useful_once=True, policy='on', control='one useful t, policy switched off'
    ),
)
BY_KEY = {setting.key: setting for setting in SETTINGS}
METRICS = dict(
    mass=Metric('useful t in the last epoch, %', 1),
    r2=Metric('R², validation images', 3),
    linear=Metric('linear, 1 % of the labels, %'),
    finetuned=Metric('fine-tuned, 1 % of the labels, %'),
)


def useful_timestep(seed: int) -> int:
    """Return the timestep of the useful features, drawn for each seed."""
    import numpy as np

    return int(np.random.default_rng(seed).integers(TIMESTEPS))


def train_classifier(seed: int, epochs: int, file: str) -> dict[str, float]:
    """Train the teacher of one seed with all labels.

    Args:
        seed: Seed.
        epochs: Number of epochs.
        file: Checkpoint to write.

    Returns:
        Test accuracy in percent.
    """
    import torch
    from repfusion_students import build_runner, schedule

    runner = build_runner(CLASSIFIER, {'randomness.seed': seed, **schedule(epochs)}, Path(file).with_suffix(''))
    runner.train()
    torch.save(dict(state_dict=runner.model.state_dict()), file)
    return dict(accuracy=runner.message_hub.get_scalar('val/accuracy/top1').current())


def evaluate_student(setting: Setting, seed: int, epochs: int, classifier: str, folder: str) -> dict[str, Any]:
    """Distil and evaluate one student.

    Args:
        setting: The setting.
        seed: Seed.
        epochs: Epochs of the distillation, and a tenth of those of the fine-tuning.
        classifier: Checkpoint of the trained teacher.
        folder: Folder of the work dirs.

    Returns:
        Values by metric, and ``masses``, the percentage of the useful timestep among the selected ones in each epoch.
    """
    import oracle_teacher  # noqa: F401  # registers the teacher
    from repfusion_students import build_runner, finetuned_accuracy, linear_accuracy, student_r2

    work_dir = Path(folder, 'distil')
    config = DISTILL.format('rl' if setting.policy else 'uniform')
    options, teacher = distill_options(setting, seed, epochs), teacher_config(setting, seed, classifier)
    runner = build_runner(config, options, work_dir, teacher)
    model = runner.model
    if setting.is_distilled:
        runner.train()
    else:
        model.init_weights()
    values = masses(work_dir, useful_timestep(seed)) if setting.policy else {}
    if setting.is_distilled:
        values['r2'] = student_r2(model, useful_timestep(seed))
    values['linear'] = linear_accuracy(model, PER_CLASS, seed)
    values['finetuned'] = finetuned_accuracy(model, PER_CLASS, 10 * epochs, seed, Path(folder))
    return values


def teacher_config(setting: Setting, seed: int, classifier: str) -> dict[str, Any]:
    """Return the config of the teacher; see :func:`evaluate_student` for the arguments."""
    return dict(
        type='reprefine.OracleTeacher',
        config=str(config_file(CLASSIFIER)),
        checkpoint=classifier if setting.is_trained else None,
        num_timesteps=TIMESTEPS,
        informative_t=useful_timestep(seed) if setting.is_useful_once else None,
        seed=seed,
    )


def distill_options(setting: Setting, seed: int, epochs: int) -> dict[str, Any]:
    """Return the options of the distillation; see :func:`evaluate_student` for the arguments."""
    options = {'randomness.seed': seed, 'train_cfg.val_interval': epochs}
    options |= {'train_cfg.max_epochs': epochs, 'param_scheduler.0.T_max': epochs}
    options['model.eval_timesteps'] = [useful_timestep(seed)]
    if not setting.policy:
        return options | {'model.timestep_source.seed': seed}
    # In the warm-up of the hook timesteps are uniform, and only the head of the reward is trained.
    hook = dict(seed=seed, candidates=None, warmup_epochs=1 if setting.policy == 'on' else epochs)
    return options | {f'custom_hooks.1.{key}': value for key, value in hook.items()}


def masses(work_dir: Path, useful: int) -> dict[str, Any]:
    """Return the percentage of the useful timestep among the selected ones, in each epoch and in the last one."""
    from reprefine.methods.repfusion import read_histogram

    counts = read_histogram(work_dir).counts
    percent = (100 * counts[:, useful] / counts.sum(axis=1)).round(2).tolist()
    return dict(masses=percent, mass=percent[-1])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    add_run_arguments(parser, 'work_dirs/repfusion_mechanism')
    parser.add_argument('--epochs', type=int, default=10, help='epochs of the distillation (default: 10)')
    parser.add_argument('--record', type=Path, default=ROOT / FILE, help=f'record to write (default: {FILE})')


def main(args: argparse.Namespace) -> None:
    """Compute what is left and write the record."""
    out, seeds = args.out.absolute(), list(range(args.seeds))
    files = {seed: str(out / f'classifier_seed{seed}.pth') for seed in seeds}
    epochs = (args.epochs + 1) // 2
    parts = {f'classifier_seed{seed}': (seed, epochs, file) for seed, file in files.items()}
    teachers = run_parts(train_classifier, parts, out, args.jobs)
    students = {
        f'{setting.key}_seed{seed}': (setting, seed, args.epochs, files[seed], str(out / f'{setting.key}_{seed}'))
        for seed in seeds
        for setting in SETTINGS
    }
    values = run_parts(evaluate_student, students, out, args.jobs)
    save_record(args.record, make_record(teachers, values, seeds))
    print(args.record)


def make_record(teachers: dict[str, dict], values: dict[str, dict], seeds: list[int]) -> Record:
    """Return the record.

    Args:
        teachers: Values of :func:`train_classifier` by part.
        values: Values of :func:`evaluate_student` by part.
        seeds: The seeds.
    """
    rows = []
    for setting in SETTINGS:
        parts = [values[f'{setting.key}_seed{seed}'] for seed in seeds]
        columns = {name: [part[name] for part in parts] for name in METRICS if name in parts[0]}
        rows.append(Row(setting.name, columns, setting.control))
    notes = dict(
        teacher_accuracy=[part['accuracy'] for part in teachers.values()],
        useful_timesteps=[useful_timestep(seed) for seed in seeds],
        masses={f'seed {seed}': values[f'on_seed{seed}']['masses'] for seed in seeds},
    )
    return Record(
        title='Distillation and policy of RepFusion with a classifier as the teacher',
        kind='mechanism',
        data='MNIST-5k: 3,000 training, 1,000 validation and 1,000 test images',
        seeds=seeds,
        metrics=METRICS,
        rows=rows,
        minutes=round((total_seconds(teachers) + total_seconds(values)) / 60, 1),
        threads=1,
        notes=notes,
        **environment(),
    )


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
