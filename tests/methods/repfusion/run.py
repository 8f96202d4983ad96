"""Short distillations of random images from the tiny teacher."""

import itertools
from pathlib import Path
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.dataset import default_collate
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.structures import DataSample
from torch import nn
from torch.utils.data import DataLoader, Dataset

from reprefine.engine.runner import Runner
from reprefine.methods.repfusion.counter_rng import CounterRNG

from .tiny import TEACHER

CLASSES = 3
MODEL = dict(
    type='reprefine.RepFusionDistiller',
    student=dict(backbone=dict(type='ResNet_CIFAR', depth=18, base_channels=4, stem_channels=4)),
    student_layers=['backbone.layer4.1.relu'],
    teacher=TEACHER,
    loss=dict(type='reprefine.HintLoss'),
    timestep_source=dict(type='reprefine.UniformTimesteps'),
    data_preprocessor=dict(type='ImgDataPreprocessor', mean=[128.0] * 3, std=[128.0] * 3),
)
HOOK = dict(type='reprefine.RLTimestepSelectorHook', head=dict(num_classes=CLASSES))
EXACT = [dict(type='reprefine.DrawCountHook')]


def distiller(seed: int = 0, **changes: Any) -> nn.Module:
    """Return a distiller with seeded weights."""
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(ConfigDict({**MODEL, **changes}))


class Images(Dataset):
    """Images of 16 x 16 pixels whose brightness tells the class."""

    def __init__(self, count: int, labelled: bool = True) -> None:
        generator = torch.Generator().manual_seed(0)
        self.labels, self.labelled = torch.arange(count) % CLASSES, labelled
        noise = torch.randint(0, 60, (count, 3, 16, 16), generator=generator)
        self.pixels = (noise + 60 * self.labels[:, None, None, None]).byte()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict:
        sample = DataSample()
        if self.labelled:
            sample.set_gt_label(self.labels[index])
        return dict(inputs=self.pixels[index], data_samples=sample)


def collate(batch: list[dict]) -> dict:
    """Stack the images and keep the samples as a list."""
    return dict(
        inputs=default_collate([one['inputs'] for one in batch]), data_samples=[one['data_samples'] for one in batch]
    )


_names = itertools.count()


def make_runner(folder: Path, hook: dict | None = None, hooks: Any = (), model: Any = None, **options: Any) -> Runner:
    """Return a Runner of three epochs, each of three batches of four images."""
    name = f'repfusion-{next(_names)}'
    labelled = options.pop('labelled', True)
    options.setdefault('train_cfg', dict(by_epoch=True, max_epochs=3))
    options.setdefault('optim_wrapper', dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9)))
    own = [] if hook is None else [{**HOOK, **hook}]
    return Runner(
        model or distiller(),
        str(folder),
        train_dataloader=DataLoader(Images(12, labelled), 4, shuffle=True, collate_fn=collate),
        default_scope='mmpretrain',
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)) | options.pop('default_hooks', {}),
        custom_hooks=[*EXACT, *own, *hooks],
        experiment_name=name,
        visualizer=dict(type='Visualizer', name=name, vis_backends=[dict(type='LocalVisBackend')]),
        log_level='WARNING',
        randomness=dict(seed=0),
        **options,
    )


def trained(folder: Path, hook: dict | None = None, **options: Any) -> Runner:
    """Train and return the Runner."""
    runner = make_runner(folder, hook, **options)
    runner.train()
    return runner


def uniform_batches(probability: float, count: int) -> list[bool]:
    """Return which of the first batches of a run have uniform timesteps, for seed 0 and one draw a batch."""
    rng, is_uniform = CounterRNG(), []
    for rng.count in range(count):
        is_uniform.append(rng.bernoulli(probability))
    return is_uniform


def selector_hook(runner: Runner) -> Any:
    """Return the hook that holds the policy."""
    return next(hook for hook in runner.hooks if type(hook).__name__ == 'RLTimestepSelectorHook')
