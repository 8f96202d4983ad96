"""Distil a small diffusion model into a small ResNet on MNIST-5k, and fine-tune the students with few and all labels.

One diffusion model is trained without labels. For each seed it teaches four students, which differ in the selection of
timesteps; each student is then fine-tuned with 1, 10 and 100 percent of the labels, like the same network with random
weights and a network distilled from a wider classifier with the same labels. All have the same number of epochs with
labels.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from runner import PRELOAD, add_run_arguments, config_file, run, save_report, tool_job, train_job

from reprefine.engine.cli.jobs import Job
from reprefine.engine.cli.tool import run_as_tool

EXAMPLE = """example:
  python tools/experiments/repfusion.py --seeds 5 --out work_dirs/repfusion_demo
"""
TEACHER = 'repfusion/teacher/ddpm-small_20e_mnist5k-32px'
STUDENT = 'repfusion/distill/resnet14-narrow_repfusion-{}-hint_6e_mnist5k-32px'
START = 'repfusion/classification/resnet14-narrow_repfusion-pre_5e_mnist5k-32px'
RANDOM = 'baselines/classification/resnet14-narrow_5e_mnist5k-32px'
WIDE = 'baselines/classification/resnet14-w32_5e_mnist5k-32px'
KD = 'repfusion/kd/resnet14-narrow_kd-soft-target_5e_mnist5k-32px'
SELECTORS = dict(rl='RL', uniform='uniform', zero='t = 0', best='best fixed t')
METRIC = 'accuracy/top1'


class LabelFraction(NamedTuple):
    """A fraction of the training labels.

    Attributes:
        name: Name in the table and in work dirs.
        per_class: Number of labelled images per class, None for all 300.
        epochs: Number of epochs of the training with labels.
    """

    name: str
    per_class: int | None
    epochs: int


FRACTIONS = (LabelFraction('1 %', 3, 100), LabelFraction('10 %', 30, 40), LabelFraction('100 %', None, 5))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    add_run_arguments(parser, 'work_dirs/repfusion_demo')


def teacher_jobs(out: Path) -> list[Job]:
    """Return the training of the teacher, and the probe of its timesteps on the validation images."""
    teacher = train_job('teacher', config_file(TEACHER), out / 'teacher', 'epoch_20.pth')
    arguments = [out / 'teacher/teacher', out / 'probe.json']
    log, product = out / 'probe.log', out / 'probe.json'
    return [teacher, tool_job('probe', 'experiments/repfusion_probe.py', arguments, log, ('teacher',), product)]


def seed_jobs(seed: int, out: Path, best: int) -> list[Job]:
    """Return all trainings of one seed; ``best`` is the timestep with the best linear probe."""
    jobs = [distillation_job(selector, seed, out, best) for selector in SELECTORS]
    for fraction in FRACTIONS:
        for distillation, selector in zip(jobs[: len(SELECTORS)], SELECTORS, strict=True):
            start = f'model.backbone.init_cfg.checkpoint={distillation.product}'
            jobs.append(finetuning_job(selector, START, fraction, seed, out, [start], (distillation.name,)))
        jobs.append(finetuning_job('random', RANDOM, fraction, seed, out))
        wide = finetuning_job('wide', WIDE, fraction, seed, out)
        teacher = [f'model.teacher.pretrained={wide.product}']
        jobs += [wide, finetuning_job('kd', KD, fraction, seed, out, teacher, (wide.name,))]
    return jobs


def distillation_job(selector: str, seed: int, out: Path, best: int) -> Job:
    """Return the distillation with one selection of timesteps."""
    options = [f'randomness.seed={seed}', f'model.teacher.source={out}/teacher/teacher']
    if selector == 'rl':
        options.append(f'custom_hooks.1.seed={seed}')
    elif selector == 'uniform':
        options.append(f'model.timestep_source.seed={seed}')
    else:
        options.append(f'model.timestep_source.timestep={0 if selector == "zero" else best}')
    config = config_file(STUDENT.format(selector if selector in ('rl', 'uniform') else 'fixed'))
    return train_job(f'distil {selector}, seed {seed}', config, work_dir(selector, seed, out), 'epoch_6.pth', options)


def finetuning_job(
    network: str,
    config: str,
    fraction: LabelFraction,
    seed: int,
    out: Path,
    options: Sequence[str] = (),
    after: Sequence[str] = (),
) -> Job:
    """Return the training with a fraction of the labels, evaluated on the test images after its last epoch."""
    data = [f'train_dataloader.dataset.per_class={fraction.per_class}', f'train_dataloader.dataset.subset_seed={seed}']
    schedule = [f'{key}={fraction.epochs}' for key in ('train_cfg.max_epochs', 'train_cfg.val_interval')]
    schedule += [f'param_scheduler.0.T_max={fraction.epochs}', f'default_hooks.checkpoint.interval={fraction.epochs}']
    options = [f'randomness.seed={seed}', 'val_dataloader.dataset.split=test', *schedule, *data, *options]
    name, folder = f'{fraction.name} of the labels, {network}, seed {seed}', label_dir(network, fraction, seed, out)
    return train_job(name, config_file(config), folder, f'epoch_{fraction.epochs}.pth', options, after=after)


def work_dir(network: str, seed: int, out: Path) -> Path:
    """Return the work dir of one network and seed."""
    return out / f'{network}_seed{seed}'


def label_dir(network: str, fraction: LabelFraction, seed: int, out: Path) -> Path:
    """Return the work dir of one training with labels."""
    return work_dir(network, seed, out) / f'labels_{fraction.name.split()[0]}'


def make_table(seeds: int, out: Path) -> str:
    """Return the accuracies as a Markdown table, with the paired differences to random weights."""
    from reprefine.visualization.run_comparison import RunResult, comparison_table, read_run_result, select_value

    def result(network: str, seed: int) -> RunResult:
        runs = {fraction.name: read_run_result(label_dir(network, fraction, seed, out)) for fraction in FRACTIONS}
        return RunResult(out, seed, {name: [select_value(run, METRIC)] for name, run in runs.items()})

    labels = dict(random='random weights', wide='wider network, random weights', kd='KD from the wider network')
    labels |= {selector: f'RepFusion, {label}' for selector, label in SELECTORS.items()}
    groups = {label: [result(network, seed) for seed in range(seeds)] for network, label in labels.items()}
    return comparison_table(groups, [fraction.name for fraction in FRACTIONS])


def main(args: argparse.Namespace) -> None:
    """Run the jobs that are not finished and print the table.

    Raises:
        UserError: If a job fails.
    """
    args.out = args.out.absolute()
    preload = (*PRELOAD, 'diffusers')
    run(teacher_jobs(args.out), args, preload)
    best = json.loads((args.out / 'probe.json').read_text())['best']
    print(f'timestep with the best linear probe: {best}')
    run([job for seed in range(args.seeds) for job in seed_jobs(seed, args.out, best)], args, preload)
    save_report(make_table(args.seeds, args.out), args.out / 'table.md')


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
