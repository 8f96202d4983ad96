"""Jobs of the end-to-end experiment of DVT."""

from pathlib import Path
from typing import NamedTuple

from runner import ROOT, test_job, tool_job, train_job

from reprefine.engine.cli.jobs import Job

DEMO, BASELINES = ROOT / 'configs/dvt/demo', ROOT / 'configs/baselines/segmentation'
IMAGES, VALIDATION = 64, 32  # scenes whose features are denoised: for training, and to choose the iterations
ITERATIONS = (300, 600, 1200, 2400)  # of the denoiser, to choose from
VIT, PATTERNED = 'vit_tiny_patch16_224', 'vit-p4-patterned'  # names of the models in the folders of features
DENOISERS = {'dvt': 'denoised', 'control': 'raw'}  # targets by name


class Repetition(NamedTuple):
    """A repetition.

    Attributes:
        seed: Seed of views, denoisers and probes.
        vit: Number of the ViT, the seed of its pre-training.
        out: Folder of the experiment.
    """

    seed: int
    vit: int
    out: Path

    @property
    def folder(self) -> Path:
        """Folder of the repetition."""
        return self.out / f'run{self.seed}'

    @property
    def weights(self) -> Path:
        """Weights of the ViT."""
        return self.out / f'vit{self.vit}/vit.pth'


def log_file(name: str, out: Path) -> Path:
    """Return the log file of a job."""
    return out / 'logs' / f'{name.replace(" ", "_")}.log'


def scene_jobs(out: Path) -> list[Job]:
    """Return the drawing of training and test scenes, and of those that choose the iterations of the denoiser."""
    sizes = {'scenes': ('--train', 2000, '--val', 200), 'validation': ('--train', VALIDATION, '--val', 1, '--seed', 1)}
    return [
        tool_job(
            f'draw {name}',
            'dataset_tools/make_ade20k_scenes.py',
            [*size, '--out', out / name],
            log_file(f'draw {name}', out),
            (),
            out / name / 'objectInfo150.txt',
        )
        for name, size in sizes.items()
    ]


def vit_jobs(vit: int, iterations: int, out: Path) -> list[Job]:
    """Return the pre-training of a ViT and the conversion of its weights."""
    folder, names = out / f'vit{vit}', [f'pre-train {vit}', f'convert {vit}']
    logs, checkpoint = [log_file(name, out) for name in names], f'iter_{iterations}.pth'
    options = [f'randomness.seed={vit}', f'train_cfg.max_iters={iterations}']
    options += [f'param_scheduler.1.T_max={iterations}', f'param_scheduler.1.end={iterations}']
    mae, data = DEMO / 'mae_vit-p4_ade20k-64px.py', ['--data-root', out / 'scenes']
    pretrain = train_job(names[0], mae, folder / 'mae', checkpoint, options, data, logs[0], ('draw scenes',))
    words = [pretrain.product, folder / 'vit.pth']
    convert = tool_job(names[1], 'model_converters/mae_to_timm.py', words, logs[1], names[:1], words[1])
    return [pretrain, convert]


def denoise_job(repetition: Repetition, patterned: bool = False, validation: bool = False) -> Job:
    """Return the denoising of training scenes, or of validation scenes, one by one."""
    kind = 'validation' if validation else 'patterned' if patterned else 'features'
    name, count = f'denoise {kind} {repetition.seed}', VALIDATION if validation else IMAGES
    folder = repetition.out / ('validation' if validation else 'scenes') / 'images/training'
    config = DEMO / f'vit-p4{"-patterned" if patterned else ""}_denoise_96views.py'
    arguments = [config, '--data-root', folder, '--out', repetition.folder / kind, '--num', count, '--cfg-options']
    arguments += [f'{_vit_key(patterned)}.checkpoint={repetition.weights}', f'stage1.seed={repetition.seed}']
    model_id = PATTERNED if patterned else VIT
    last_file = repetition.folder / kind / f'denoised_features/{model_id}/ADE_train_{count:08}.jpg.npy'
    after = ('draw validation',) if validation else ()
    after = (f'convert {repetition.vit}', *after)
    return tool_job(name, 'denoise_images.py', arguments, log_file(name, repetition.out), after, last_file)


def denoiser_job(repetition: Repetition, kind: str, patterned: bool, iterations: int) -> Job:
    """Return the training of a denoiser."""
    name = f'train {_title(kind, patterned)} {repetition.seed} {iterations}'
    config, features = DEMO / 'vit-p4_denoiser_300_ade20k-64px.py', 'patterned' if patterned else 'features'
    options = [f'randomness.seed={repetition.seed}', f'train_cfg.max_iters={iterations}']
    options += [f'param_scheduler.0.total={iterations}', f'train_dataloader.dataset.target={DENOISERS[kind]}']
    options += [f'train_dataloader.dataset.model_id={PATTERNED}'] if patterned else []
    work_dir, data = (
        repetition.folder / f'{_title(kind, patterned)}_{iterations}',
        ['--data-root', repetition.folder / features],
    )
    log, after = log_file(name, repetition.out), (f'denoise {features} {repetition.seed}',)
    return train_job(name, config, work_dir, f'iter_{iterations}.pth', options, data, log, after)


def probe_jobs(repetition: Repetition, name: str, patterned: bool, neck: Job | None = None) -> list[Job]:
    """Return training and test of a linear probe, with the denoiser of the job ``neck`` if there is one."""
    title = _title(name, patterned)
    work_dir, kind = repetition.folder / f'probe_{title}', '-patterned' if patterned else ''
    config = (DEMO if neck else BASELINES) / f'vit-p4{kind}{"-dvt" if neck else ""}_linear_120_ade20k-64px.py'
    options = [f'randomness.seed={repetition.seed}', f'model.{_vit_key(patterned)}.checkpoint={repetition.weights}']
    options += [f'model.neck.checkpoint={neck.product}'] if neck else []
    names = [f'probe {title} {repetition.seed}', f'test {title} {repetition.seed}']
    logs, data = [log_file(job, repetition.out) for job in names], ['--data-root', repetition.out / 'scenes']
    after = (neck.name if neck else f'convert {repetition.vit}',)
    train = train_job(names[0], config, work_dir, 'iter_120.pth', options, ['--no-validate', *data], logs[0], after)
    metrics = work_dir / 'test.json'
    return [train, test_job(names[1], config, train.product, metrics, options, data, log=logs[1], after=names[:1])]


def choice_jobs(repetition: Repetition, vit_iterations: int) -> list[Job]:
    """Return the jobs before the choice of iterations: the denoiser of one run, trained for all of them."""
    denoisers = [denoiser_job(repetition, 'dvt', False, iterations) for iterations in ITERATIONS]
    stage1 = [denoise_job(repetition), denoise_job(repetition, validation=True)]
    return [*scene_jobs(repetition.out), *vit_jobs(repetition.vit, vit_iterations, repetition.out), *stage1, *denoisers]


def make_jobs(repetitions: list[Repetition], vit_iterations: int, iterations: int) -> list[Job]:
    """Return all jobs of all runs, with a number of iterations of the denoiser."""
    jobs = scene_jobs(repetitions[0].out)
    for vit in sorted({repetition.vit for repetition in repetitions}):
        jobs += vit_jobs(vit, vit_iterations, repetitions[0].out)
    for repetition in repetitions:
        for patterned in (False, True):
            jobs += [denoise_job(repetition, patterned), *probe_jobs(repetition, 'raw', patterned)]
            for kind in DENOISERS:
                training = denoiser_job(repetition, kind, patterned, iterations)
                jobs += [training, *probe_jobs(repetition, kind, patterned, training)]
    return jobs


def _vit_key(patterned: bool) -> str:
    """Return the config key of the ViT, which a backbone with a known pattern wraps."""
    return 'backbone.backbone' if patterned else 'backbone'


def _title(name: str, patterned: bool) -> str:
    return f'patterned-{name}' if patterned else name
