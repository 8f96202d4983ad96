"""Denoise the features of a small ViT on scenes with digits, and evaluate them with and without the denoiser.

A ViT is pre-trained as a masked autoencoder. Images are denoised one by one in closed form and, fewer of them, with the
neural field. Denoisers are trained on both results and, as a control, on raw features, and evaluated by linear
segmentation over several seeds. The same is done with a ViT whose position artifact is known.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

from runner import ROOT, add_run_arguments, run, test_job, tool_job, train_job

from reprefine.engine.cli.jobs import Job
from reprefine.engine.cli.tool import run_as_tool

EXAMPLE = """example:
  python tools/experiments/dvt.py --seeds 5 --out work_dirs/dvt_demo

It takes about an hour on one core. Run it again to continue an interrupted call.
"""
DEMO, BASELINES = ROOT / 'configs/dvt/demo', ROOT / 'configs/baselines/segmentation'
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
VIT, PATTERNED = 'vit_tiny_patch16_224', 'vit-p4-patterned'  # names of the models in the folders of features


class Features(NamedTuple):
    """Stored features: their folder, the config and arguments of denoise_images.py, and the folder of the model."""

    folder: str
    config: str
    arguments: tuple[str, ...]
    model_id: str = VIT


class Denoiser(NamedTuple):
    """A denoiser: its name, the features it is trained on, and options of its training."""

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
    add_run_arguments(parser, 'work_dirs/dvt_demo')


def log_file(name: str, out: Path) -> Path:
    """Return the log file of a job."""
    return out / 'logs' / f'{name.replace(" ", "_")}.log'


def common_jobs(out: Path) -> list[Job]:
    """Return the jobs that draw the scenes, pre-train the ViT, and denoise images one by one."""
    scenes, vit, logs = out / 'scenes', out / 'vit.pth', out / 'logs'
    scene_arguments = ['--train', 2000, '--val', 200, '--out', scenes]
    last_file = scenes / 'objectInfo150.txt'
    draw = tool_job('draw', 'dataset_tools/make_ade20k_scenes.py', scene_arguments, logs / 'draw.log', (), last_file)
    mae, data = DEMO / 'mae_vit-p4_ade20k-64px.py', ['--data-root', scenes]
    pretrain = train_job(
        'pre-train', mae, out / 'mae', 'iter_4000.pth', (), data, logs / 'pre-train.log', after=(draw.name,)
    )
    convert = tool_job(
        'convert', 'model_converters/mae_to_timm.py', [pretrain.product, vit], logs / 'convert.log', ('pre-train',), vit
    )
    return [draw, pretrain, convert, *(denoise_job(name, out) for name in FEATURES)]


def denoise_job(name: str, out: Path) -> Job:
    """Return the denoising of images one by one."""
    features, job = FEATURES[name], f'denoise {name}'
    folder = out / features.folder
    arguments = [DEMO / f'{features.config}.py', '--data-root', out / 'scenes/images/training', '--out', folder]
    arguments += ['--save-components', *features.arguments]
    arguments += ['--cfg-options', f'{_vit_key(features.model_id == PATTERNED)}.checkpoint={out / "vit.pth"}']
    count = FEW if name == 'field' else IMAGES
    last_file = folder / f'denoised_features/{features.model_id}/ADE_train_{count:08}.jpg.npy'
    return tool_job(job, 'denoise_images.py', arguments, log_file(job, out), ('convert',), last_file)


def denoiser_job(denoiser: Denoiser, seed: int, out: Path) -> Job:
    """Return the training of one denoiser."""
    name, config = f'train {denoiser.name} {seed}', DEMO / 'vit-p4_denoiser_300_ade20k-64px.py'
    options = [f'randomness.seed={seed}', *denoiser.options]
    data = ['--data-root', out / FEATURES[denoiser.features].folder]
    after = (f'denoise {denoiser.features}',)
    work_dir = out / f'{denoiser.name}_seed{seed}'
    return train_job(name, config, work_dir, 'iter_300.pth', options, data, log_file(name, out), after)


def probe_jobs(name: str, patterned: bool, seed: int, out: Path, neck: Path | None) -> list[Job]:
    """Return training and test of a linear probe, with the denoiser ``neck`` if there is one."""
    work_dir, kind = out / f'probe_{name}_seed{seed}', '-patterned' if patterned else ''
    config = (DEMO if neck else BASELINES) / f'vit-p4{kind}{"-dvt" if neck else ""}_linear_120_ade20k-64px.py'
    options = [f'randomness.seed={seed}', f'model.{_vit_key(patterned)}.checkpoint={out / "vit.pth"}']
    options += [f'model.neck.checkpoint={neck}'] if neck else []
    data, names = ['--data-root', out / 'scenes'], [f'probe {name} {seed}', f'test {name} {seed}']
    logs, after = [log_file(job, out) for job in names], (f'train {name} {seed}',) if neck else ('convert',)
    train = train_job(
        names[0], config, work_dir, 'iter_120.pth', options, ['--no-validate', *data], log=logs[0], after=after
    )
    metrics = work_dir / 'test.json'
    return [train, test_job(names[1], config, train.product, metrics, options, data, log=logs[1], after=names[:1])]


def _vit_key(patterned: bool) -> str:
    """Return the config key of the ViT, which a backbone with a known artifact wraps."""
    return 'backbone.backbone' if patterned else 'backbone'


def make_jobs(seeds: int, out: Path) -> list[Job]:
    """Return all jobs, seed by seed."""
    jobs = common_jobs(out)
    for seed in range(seeds):
        for patterned in (False, True):
            jobs += probe_jobs('patterned-raw' if patterned else 'raw', patterned, seed, out, None)
        for denoiser in DENOISERS:
            training = denoiser_job(denoiser, seed, out)
            jobs += [training, *probe_jobs(denoiser.name, denoiser.patterned, seed, out, training.product)]
    return jobs


def main(args: argparse.Namespace) -> None:
    """Run the jobs that are not finished and print the tables.

    Raises:
        UserError: If a job fails.
    """
    args.out = args.out.resolve()
    run(make_jobs(args.seeds, args.out), args, PRELOAD)
    from reports.dvt import write_report  # after the jobs, because its imports take seconds

    folders = {name: args.out / features.folder for name, features in FEATURES.items()}
    probes = ['raw', *(denoiser.name for denoiser in DENOISERS if not denoiser.patterned)]
    probes += ['patterned-raw', 'patterned-dvt']
    print(write_report(args.out, folders, probes, args.seeds))


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
