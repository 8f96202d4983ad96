"""Distil a small diffusion model into a small ResNet on MNIST-5k, and train the students on with few and all labels.

One diffusion model is trained, without labels. For every seed it teaches four students, which differ in how timesteps
are chosen; each is then trained on with 1, 10 and 100 percent of the labels, beside the same network from random
weights and one that learns from a wider classifier of the same labels. All get the same epochs with labels.
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

from reprefine.engine.cli.jobs import Job, add_jobs_arguments, run_jobs
from reprefine.engine.cli.tool import run_as_tool

EXAMPLE = """example:
  python tools/repfusion_demo/run.py --seeds 5 --out work_dirs/repfusion_demo
"""
ROOT = Path(__file__).resolve().parents[2]
PRELOAD = (
    'mmpretrain.models',
    'mmpretrain.datasets',
    'mmpretrain.evaluation',
    'mmpretrain.engine',
    'mmpretrain.visualization',
    'diffusers',
    'reprefine.engine.cli.train',
    'reprefine.methods',
)
TEACHER = 'repfusion/teacher/ddpm-small_20e_mnist5k-32px'
STUDENT = 'repfusion/distill/resnet14-narrow_repfusion-{}-hint_6e_mnist5k-32px'
START = 'repfusion/classification/resnet14-narrow_repfusion-pre_5e_mnist5k-32px'
RANDOM = 'baselines/classification/resnet14-narrow_5e_mnist5k-32px'
WIDE = 'baselines/classification/resnet14-w32_5e_mnist5k-32px'
KD = 'repfusion/kd/resnet14-narrow_kd-soft-target_5e_mnist5k-32px'
SELECTORS = dict(rl='RL', uniform='uniform', zero='t = 0', best='best fixed t')
METRIC = 'accuracy/top1'


class Labels(NamedTuple):
    """A share of the training labels.

    Attributes:
        name: In table and folders.
        per_class: Labelled images of each class, None for all 300.
        epochs: Epochs of training with them.
    """

    name: str
    per_class: int | None
    epochs: int


SHARES = (Labels('1 %', 3, 100), Labels('10 %', 30, 40), Labels('100 %', None, 5))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    add_jobs_arguments(parser, ROOT / 'work_dirs/repfusion_demo')


def train_job(name: str, config: str, folder: Path, epochs: int, options: list[str], after: tuple = ()) -> Job:
    """Return the training of a config; an interrupted one goes on at its last checkpoint."""
    command = [ROOT / 'tools/train.py', ROOT / f'configs/{config}.py', '--work-dir', folder, '--resume']
    command += ['--cfg-options', *options] if options else []
    return Job(name, list(map(str, command)), folder / 'train.log', after, folder / f'epoch_{epochs}.pth')


def first_jobs(out: Path) -> list[Job]:
    """Return the training of the teacher, and the probe of its timesteps on the validation images."""
    teacher = train_job('teacher', TEACHER, out / 'teacher', 20, [])
    probe = [ROOT / 'tools/repfusion_demo/probe.py', out / 'teacher/teacher', out / 'probe.json']
    return [teacher, Job('probe', list(map(str, probe)), out / 'probe.log', ('teacher',), out / 'probe.json')]


def seed_jobs(seed: int, out: Path, best: int) -> list[Job]:
    """Return all trainings of one seed, ``best`` being the timestep that the probe found."""
    jobs = [distil_job(selector, seed, out, best) for selector in SELECTORS]
    for share in SHARES:
        for selector in SELECTORS:
            start = f'model.backbone.init_cfg.checkpoint={folder_of(selector, seed, out)}/epoch_6.pth'
            jobs.append(label_job(selector, START, share, seed, out, [start], (f'distil {selector}, seed {seed}',)))
        jobs.append(label_job('random', RANDOM, share, seed, out))
        wide = label_job('wide', WIDE, share, seed, out)
        taught = [f'model.teacher.pretrained={wide.product}']
        jobs += [wide, label_job('kd', KD, share, seed, out, taught, (wide.name,))]
    return jobs


def distil_job(selector: str, seed: int, out: Path, best: int) -> Job:
    """Return the distillation with one rule for timesteps."""
    options = [f'randomness.seed={seed}', f'model.teacher.source={out}/teacher/teacher']
    if selector == 'rl':
        options.append(f'custom_hooks.2.seed={seed}')
    elif selector == 'uniform':
        options.append(f'model.timestep_source.seed={seed}')
    else:
        options.append(f'model.timestep_source.timestep={0 if selector == "zero" else best}')
    config = STUDENT.format(selector if selector in ('rl', 'uniform') else 'fixed')
    return train_job(f'distil {selector}, seed {seed}', config, folder_of(selector, seed, out), 6, options)


def label_job(
    arm: str, config: str, share: Labels, seed: int, out: Path, options: list[str] | None = None, after: tuple = ()
) -> Job:
    """Return the training with a share of the labels, evaluated on the test images after its last epoch."""
    data = [f'train_dataloader.dataset.per_class={share.per_class}', f'train_dataloader.dataset.subset_seed={seed}']
    length = [f'{key}={share.epochs}' for key in ('train_cfg.max_epochs', 'train_cfg.val_interval')]
    length += [f'param_scheduler.0.T_max={share.epochs}', f'default_hooks.checkpoint.interval={share.epochs}']
    every = [f'randomness.seed={seed}', 'val_dataloader.dataset.split=test', *length, *data, *(options or [])]
    folder = labelled_folder(arm, share, seed, out)
    return train_job(f'{share.name} of the labels, {arm}, seed {seed}', config, folder, share.epochs, every, after)


def folder_of(arm: str, seed: int, out: Path) -> Path:
    """Return the folder of one arm and seed."""
    return out / f'{arm}_seed{seed}'


def labelled_folder(arm: str, share: Labels, seed: int, out: Path) -> Path:
    """Return the folder of one training with labels."""
    return folder_of(arm, seed, out) / f'labels_{share.name.split()[0]}'


def table(seeds: int, out: Path) -> str:
    """Return the accuracies as a Markdown table, with the paired difference to random weights."""
    from reprefine.visualization.run_comparison import RunResult, chosen_value, comparison_table, read_result

    def result(arm: str, seed: int) -> RunResult:
        runs = {share.name: read_result(labelled_folder(arm, share, seed, out)) for share in SHARES}
        return RunResult(out, seed, {name: [chosen_value(run, METRIC)] for name, run in runs.items()})

    arms = dict(random='random weights', wide='wider network, random weights', kd='ordinary KD from the wider network')
    arms |= {selector: f'RepFusion, {label}' for selector, label in SELECTORS.items()}
    groups = {label: [result(arm, seed) for seed in range(seeds)] for arm, label in arms.items()}
    return comparison_table(groups, [share.name for share in SHARES])


def main(args: argparse.Namespace) -> None:
    """Run what is not done yet and print the table.

    Raises:
        UserError: If a step fails.
    """
    args.out = args.out.absolute()
    run_jobs(first_jobs(args.out), args.jobs, PRELOAD)
    best = json.loads((args.out / 'probe.json').read_text())['best']
    jobs = [job for seed in range(args.seeds) for job in seed_jobs(seed, args.out, best)]
    print(f'best fixed timestep t = {best}; {len(jobs)} trainings, {args.jobs} at a time; results in {args.out}')
    run_jobs(jobs, args.jobs, PRELOAD)
    text = table(args.seeds, args.out)
    (args.out / 'table.md').write_text(f'{text}\n')
    print(text)


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
