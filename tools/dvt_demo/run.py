"""Denoise the features of a small ViT on scenes of digits, and probe them with and without the denoiser.

A ViT is pre-trained by masked auto-encoding. Images are denoised one by one, by least squares and, fewer of them, by
the field; denoisers are trained on either result and on raw features as a control; linear segmentation judges them over
several seeds. The same is done with a ViT whose position pattern is known.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

from reprefine.engine.cli.jobs import Job, add_jobs_arguments, run_jobs
from reprefine.engine.cli.tool import run_as_tool

EXAMPLE = """example:
  python tools/dvt_demo/run.py --seeds 5 --out work_dirs/dvt_demo

About an hour of one core. Run it again to go on where it stopped.
"""
ROOT = Path(__file__).resolve().parents[2]
TOOLS, CONFIGS = ROOT / 'tools', ROOT / 'configs'
DEMO, BASELINES = CONFIGS / 'dvt/demo', CONFIGS / 'baselines/segmentation'
PRELOAD = (
    'mmpretrain.models',
    'mmpretrain.datasets',
    'mmpretrain.engine',
    'mmpretrain.visualization',
    'mmseg.models',
    'mmseg.datasets',
    'mmseg.evaluation',
    'mmseg.visualization',
    'reprefine.engine.cli.train',
    'reprefine.engine.cli.test',
    'reprefine.methods',
    'reprefine.tasks',
)
IMAGES, FEW = 64, 12
VIT, PATTERNED = 'vit_tiny_patch16_224', 'vit-p4-patterned'


class Features(NamedTuple):
    """Stored pairs: their folder, the config and options that make them, and the folder of the model in it."""

    folder: str
    config: str
    options: tuple[str, ...]
    model_id: str = VIT


class Denoiser(NamedTuple):
    """A denoiser: its name, the features it learns from, and options of its training."""

    name: str
    features: str
    options: tuple[str, ...] = ()
    patterned: bool = False


FEATURES = {
    'closed-form': Features('features/closed_form', 'vit-p4_denoise_96views', ('--num', str(IMAGES))),
    'field': Features('features/field', 'vit-p4_denoise_96views', ('--num', str(FEW), '--solver', 'field')),
    'patterned': Features('features/patterned', 'vit-p4-patterned_denoise_96views', ('--num', str(IMAGES)), PATTERNED),
}
DENOISERS = (
    Denoiser('dvt', 'closed-form'),
    Denoiser('identity', 'closed-form', ('train_dataloader.dataset.target=raw',)),
    Denoiser('few-closed-form', 'closed-form', (f'train_dataloader.dataset.indices={FEW}',)),
    Denoiser('few-field', 'field'),
    Denoiser('patterned-dvt', 'patterned', (f'train_dataloader.dataset.model_id={PATTERNED}',), patterned=True),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    add_jobs_arguments(parser, ROOT / 'work_dirs/dvt_demo', ' of denoiser and probe')


def step(name: str, script: str, arguments: list, out: Path, after: tuple[str, ...], product: Path) -> Job:
    """Return a job that runs one of our tools."""
    command = [str(word) for word in (TOOLS / script, *arguments)]
    return Job(name, command, out / 'logs' / f'{name.replace(" ", "_")}.log', after, product)


def common_jobs(out: Path) -> list[Job]:
    """Return drawing the scenes, pre-training, and denoising images one by one."""
    scenes, mae, vit = out / 'scenes', out / 'mae', out / 'vit.pth'
    mae_args = [DEMO / 'mae_vit-p4_ade20k-64px.py', '--work-dir', mae, '--data-root', scenes, '--resume']
    drawn, last = scenes / 'objectInfo150.txt', mae / 'iter_4000.pth'
    draw = ['--train', 2000, '--val', 200, '--out', scenes]
    jobs = [
        step('draw', 'dvt_demo/scenes.py', draw, out, (), drawn),
        step('pre-train', 'train.py', mae_args, out, ('draw',), last),
        step('convert', 'dvt_demo/to_timm.py', [last, vit], out, ('pre-train',), vit),
    ]
    for name, features in FEATURES.items():
        inner = 'backbone.backbone' if features.model_id == PATTERNED else 'backbone'
        where = ['--data-root', scenes / 'images/training', '--out', out / features.folder, '--save-components']
        arguments = [DEMO / f'{features.config}.py', *where, *features.options]
        arguments += ['--cfg-options', f'{inner}.checkpoint={vit}']
        count = FEW if name == 'field' else IMAGES
        end = out / features.folder / f'denoised_features/{features.model_id}/ADE_train_{count:08}.jpg.npy'
        jobs.append(step(f'denoise {name}', 'denoise_images.py', arguments, out, ('convert',), end))
    return jobs


def denoiser_job(denoiser: Denoiser, seed: int, out: Path) -> Job:
    """Return the training of one denoiser."""
    folder = out / f'{denoiser.name}_seed{seed}'
    arguments = [DEMO / 'vit-p4_denoiser_300_ade20k-64px.py', '--work-dir', folder, '--resume']
    arguments += ['--data-root', out / FEATURES[denoiser.features].folder]
    arguments += ['--cfg-options', f'randomness.seed={seed}', *denoiser.options]
    after = (f'denoise {denoiser.features}',)
    return step(f'train {denoiser.name} {seed}', 'train.py', arguments, out, after, folder / 'iter_300.pth')


def probe_jobs(name: str, patterned: bool, seed: int, out: Path, neck: Path | None) -> list[Job]:
    """Return training and test of a linear probe, behind the denoiser ``neck`` if there is one."""
    folder, kind = out / f'probe_{name}_seed{seed}', '-patterned' if patterned else ''
    stem = f'vit-p4{kind}{"-dvt" if neck else ""}_linear_120_ade20k-64px.py'
    config = (DEMO if neck else BASELINES) / stem
    inner = 'backbone.backbone' if patterned else 'backbone'
    options = [f'randomness.seed={seed}', f'model.{inner}.checkpoint={out / "vit.pth"}']
    options += [f'model.neck.checkpoint={neck}'] if neck else []
    where = ['--data-root', out / 'scenes', '--cfg-options', *options]
    checkpoint, metrics = folder / 'iter_120.pth', folder / 'test.json'
    train = [config, '--work-dir', folder, '--no-validate', '--resume', *where]
    test = [config, checkpoint, '--work-dir', folder / 'test', '--out', metrics, *where]
    after = (f'train {name} {seed}',) if neck else ('convert',)
    return [
        step(f'probe {name} {seed}', 'train.py', train, out, after, checkpoint),
        step(f'test {name} {seed}', 'test.py', test, out, (f'probe {name} {seed}',), metrics),
    ]


def all_jobs(seeds: int, out: Path) -> list[Job]:
    """Return every step, seed by seed."""
    jobs = common_jobs(out)
    for seed in range(seeds):
        for patterned in (False, True):
            jobs += probe_jobs('patterned-raw' if patterned else 'raw', patterned, seed, out, None)
        for denoiser in DENOISERS:
            training = denoiser_job(denoiser, seed, out)
            jobs += [training, *probe_jobs(denoiser.name, denoiser.patterned, seed, out, training.product)]
    return jobs


def main(args: argparse.Namespace) -> None:
    """Run what is not done yet and print the tables.

    Raises:
        UserError: If a step fails.
    """
    out = args.out.resolve()
    jobs = all_jobs(args.seeds, out)
    print(f'{len(jobs)} steps, {args.jobs} at a time; logs and results in {out}')
    run_jobs(jobs, args.jobs, PRELOAD)
    sys.path.insert(0, str(TOOLS))
    from dvt_demo.report import write_report

    folders = {name: out / features.folder for name, features in FEATURES.items()}
    probes = ['raw', *(denoiser.name for denoiser in DENOISERS if not denoiser.patterned)]
    probes += ['patterned-raw', 'patterned-dvt']
    print(write_report(out, folders, probes, args.seeds))


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
