"""RepFusion: a policy finds the timestep whose features are worth learning, and a small network learns them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import oracle_teacher  # noqa: F401  # registers the teacher
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from records import ROOT, read_record
from repfusion_mechanism import (
    BY_KEY,
    CLASSIFIER,
    DISTILL,
    FILE,
    PER_CLASS,
    distill_options,
    teacher_config,
    useful_timestep,
)
from repfusion_students import build_runner, linear_accuracy, schedule, student_r2
from tables import row_difference

from reprefine.methods.repfusion.policy.histogram import RunHistogram, read_histogram

from .section import Figure, Progress, Section

TITLE = 'RepFusion: a small network learns from another one, at the timestep that a policy selects'
SECONDS = 60
SEED, EPOCHS = 0, 8
OWN_MODEL = """
```python
# configs/repfusion/distill/my_model.py: any backbone of mmpretrain, any UNet of diffusers
model = dict(
    type='reprefine.RepFusionDistiller',
    student=dict(backbone=dict(type='ResNet', depth=18), neck=dict(type='GlobalAveragePooling')),
    student_layers=['backbone.layer4.1.relu'],
    teacher=dict(
        type='reprefine.DiffusionTeacher',
        source='google/ddpm-cifar10-32',
        layers=[['mid_block.resnets.1.conv2', None]],
    ),
    loss=dict(type='reprefine.HintLoss'),
)
custom_hooks = [dict(type='reprefine.RLTimestepSelectorHook', head=dict(num_classes=10), warmup_epochs=1)]
```

`configs/repfusion/README.md` has the commands, and the diffusion models that can be trained on your own images.
"""


class EpochHook(Hook):
    """Calls a function after every epoch, with the model."""

    def __init__(self, function: Callable[[torch.nn.Module], None]) -> None:
        self.function = function

    def after_train_epoch(self, runner: Runner) -> None:
        """Call the function; the mode of the model is restored."""
        self.function(runner.model)
        runner.model.train()


@dataclass
class Distillation:
    """A finished distillation.

    Attributes:
        r2: ``R^2`` on the validation images before the first and after each epoch.
        linear: Test accuracy of a linear classifier with few labels, in percent, before and after.
        histogram: Selected timesteps of each epoch.
    """

    r2: list[float]
    linear: tuple[float, float]
    histogram: RunHistogram


def distill(key: str, epochs: int, classifier: Path, folder: Path, progress: Callable[[], None]) -> Distillation:
    """Distil one student of the mechanism experiment.

    Args:
        key: ``'on'`` or ``'off'``: whether the policy selects the timesteps, or they are uniform.
        epochs: Number of epochs.
        classifier: Checkpoint of the teacher.
        folder: Work dir.
        progress: Called after every epoch.
    """
    setting, useful = BY_KEY[key], useful_timestep(SEED)
    options = {**distill_options(setting, SEED, epochs), 'custom_hooks.1.entropy_epochs': min(3, epochs)}
    runner = build_runner(DISTILL.format('rl'), options, folder, teacher_config(setting, SEED, str(classifier)))
    runner.model.init_weights()
    r2, before = [student_r2(runner.model, useful)], linear_accuracy(runner.model, PER_CLASS, SEED)

    def evaluate(model: torch.nn.Module) -> None:
        r2.append(student_r2(model, useful))
        progress()

    runner.register_hook(EpochHook(evaluate))
    runner.train()
    return Distillation(r2, (before, linear_accuracy(runner.model, PER_CLASS, SEED)), read_histogram(folder))


def draw(on: Distillation, off: Distillation, useful: int, file: Path) -> None:
    """Draw the timesteps that the policy selected, and ``R^2`` of both students.

    Args:
        on: The distillation with the policy.
        off: The distillation with uniform timesteps.
        useful: The useful timestep.
        file: PNG file.
    """
    from matplotlib import pyplot as plt

    from reprefine.visualization.figures import FIGURE_STYLE

    percent = 100 * on.histogram.counts / on.histogram.counts.sum(axis=1, keepdims=True)
    with plt.rc_context({**FIGURE_STYLE, 'font.size': 13, 'axes.labelsize': 13, 'axes.titlesize': 13}):
        figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 4), layout='constrained')
        extent = (0.5, len(percent) + 0.5, -0.5, percent.shape[1] - 0.5)
        image = left.imshow(percent.T, origin='lower', aspect='auto', extent=extent, cmap='viridis', vmin=0, vmax=100)
        left.annotate(
            'useful t',
            (0.7, useful),
            (1.2, (useful + 7) % 18),
            color='white',
            arrowprops=dict(arrowstyle='->', color='white'),
        )
        left.grid(visible=False)
        left.set_yticks(range(0, percent.shape[1], 5))
        left.set(xlabel='epoch', ylabel='timestep t', title='selected by the policy')
        figure.colorbar(image, ax=left, label='% of the images')
        for run, label in ((on, 'policy'), (off, 'uniform t')):
            right.plot(range(1, len(run.r2)), run.r2[1:], marker='o', label=label)
        right.set(xlabel='epoch', ylabel='R²', title='useful features explained', ylim=(-0.1, 1))
        right.legend()
        figure.savefig(file)
        plt.close(figure)


def train_classifier(folder: Path) -> Path:
    """Train the teacher with all labels, and return its checkpoint."""
    runner = build_runner(CLASSIFIER, {'randomness.seed': SEED, **schedule(5)}, folder)
    runner.train()
    torch.save(dict(state_dict=runner.model.state_dict()), folder / 'classifier.pth')
    return folder / 'classifier.pth'


def run(folder: Path, progress: Progress, epochs: int = EPOCHS, classifier: Path | None = None) -> Section:
    """Distil two students, and show what the policy selected and what they learned.

    Args:
        folder: Folder of the figure and of the work dirs.
        progress: Called with the finished fraction.
        epochs: Epochs of each distillation.
        classifier: Checkpoint of the teacher; None: it is trained first.
    """
    finished = 0

    def step() -> None:
        nonlocal finished
        finished += 1
        progress(finished / (2 * epochs + 4))

    classifier = classifier or train_classifier(folder / 'classifier')
    finished += 3
    on, off = (distill(key, epochs, classifier, folder / key, step) for key in ('on', 'off'))
    useful = useful_timestep(SEED)
    draw(on, off, useful, folder / 'policy.png')
    share = 100 * on.histogram.counts[-1, useful] / on.histogram.counts[-1].sum()
    caption = (
        f'Left: the policy starts with uniform timesteps and is not told which one is useful (t = {useful}); in the '
        f'last epoch it selects it for {share:.0f} % of the images. Right: share of the variance of the useful '
        'features that the small network explains on held-out images.'
    )
    return Section(
        what=_what(),
        number=_table(on, off),
        figures=(Figure(folder / 'policy.png', caption),),
        limits=_limits(),
        experiment='python tools/experiments/repfusion_mechanism.py',
        minutes=max(1, round(read_record(ROOT / FILE).minutes / 2)),
        own_model=OWN_MODEL,
    )


def _what() -> str:
    return (
        'RepFusion trains a small network to predict the features of a frozen diffusion model, which takes an '
        'image and a timestep t. The features differ with t, so a policy learns which t to use: its reward is how '
        'well a small classifier of these features performs. To see whether that works, the teacher here is one '
        'whose answer is known: a single one of 20 timesteps has useful features, those of a network that was '
        'trained on MNIST; all others have the features of random other images. A small ResNet learns from it '
        'twice, with the policy and with random t.'
    )


def _table(on: Distillation, off: Distillation) -> str:
    rows = [
        ('before', on.r2[0], on.linear[0]),
        ('uniform t', off.r2[-1], off.linear[1]),
        ('policy', on.r2[-1], on.linear[1]),
    ]
    lines = [f'| {name} | {r2:.2f} | {accuracy:.1f} % |' for name, r2, accuracy in rows]
    header = f'| small network | R² | accuracy with {PER_CLASS} labelled images per class |'
    return '\n'.join([header, '| --- | ---: | ---: |', *lines])


def _limits() -> str:
    record = read_record(ROOT / FILE)
    on = record.row('one useful t, policy')  # its control is the policy switched off
    found = sum(value > 90 for value in on.values['mass'])
    return (
        f'In the full experiment the policy found the timestep for {found} of {len(record.seeds)} seeds, and '
        f'fine-tuning with 1 % of the labels gained {row_difference(record, on, "finetuned")} points over random t. '
        'This checks the mechanism and is no result on a benchmark; the reward uses the labels of all training images. '
        'With a small diffusion model as the teacher, no timestep was much better than another, and RepFusion was no '
        'better than random weights in our runs (`configs/repfusion/README.md`).'
    )
