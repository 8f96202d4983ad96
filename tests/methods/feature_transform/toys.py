"""Small vectors and models for the tests of feature transformation."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.dataset import default_collate
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner as MMEngineRunner
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.utils.data import DataLoader, Dataset

from reprefine.engine.runner import Runner

BACKBONE = dict(type='ResNet', depth=18, base_channels=4, stem_channels=4)
MOCO = dict(
    type='mmpretrain.MoCo',
    queue_len=24,
    feat_dim=8,
    momentum=0.05,
    backbone=BACKBONE,
    neck=dict(type='MoCoV2Neck', in_channels=32, hid_channels=16, out_channels=8, with_avg_pool=True),
    head=dict(type='ContrastiveHead', loss=dict(type='CrossEntropyLoss'), temperature=0.2),
)
DENSECL = {
    **MOCO,
    'type': 'mmpretrain.DenseCL',
    'loss_lambda': 0.4,
    'neck': dict(type='DenseCLNeck', in_channels=32, hid_channels=16, out_channels=8, num_grid=None),
}


def unit(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Rows of unit length."""
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype), dim=-1)


def vectors(batch: int = 5, keys: int = 24, dims: int = 8, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """Queries and positive keys ``[B, D]`` that resemble each other, and a queue ``[D, K]``."""
    q = unit(batch, dims, seed=1, dtype=dtype)
    k = normalize(q + 0.8 * unit(batch, dims, seed=2, dtype=dtype), dim=1)
    return q, k, unit(keys, dims, seed=3, dtype=dtype).T.contiguous()


def build(config: dict, seed: int = 0, **changes: Any) -> nn.Module:
    """Build a model with seeded weights, queue included."""
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(ConfigDict({**config, **changes}))


def moco_ft(seed: int = 0, **changes: Any) -> nn.Module:
    return build(MOCO, seed, type='reprefine.MoCoFT', **{'feature_transform': {}, **changes})


def views(batch: int = 6, seed: int = 0, size: int = 32) -> list[Tensor]:
    """Two views of random images."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(batch, 3, size, size, generator=generator)
    return [images + 0.3 * torch.randn(images.shape, generator=generator) for _ in range(2)]


class Images(Dataset):
    """Images of three classes that differ in colour; each item has one view, or two different ones."""

    def __init__(self, count: int, seed: int = 0, two_views: bool = True) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.arange(count) % 3
        self.pixels = (
            torch.randn(count, 3, 32, 32, generator=generator) + 3 * torch.eye(3)[self.labels][:, :, None, None]
        )
        self.two_views = two_views

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict:
        image = self.pixels[index]
        inputs = [image, image.flip(2)] if self.two_views else image
        return dict(inputs=inputs, data_samples=DataSample().set_gt_label(self.labels[index]))


def loader(count: int, batch: int = 4, two_views: bool = True, **options: Any) -> DataLoader:
    return DataLoader(Images(count, two_views=two_views), batch, collate_fn=default_collate, **options)


_names = itertools.count()


def runner(folder: Path, model: nn.Module, images: int = 12, train_cfg: dict | None = None, **options: Any) -> Runner:
    """A Runner whose epoch has three iterations of four images."""
    name = f'feature-transform-{next(_names)}'
    options.setdefault('randomness', dict(seed=0))
    return Runner(
        model,
        str(folder),
        train_dataloader=loader(images, drop_last=True),
        train_cfg=train_cfg or dict(by_epoch=True, max_epochs=3),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9)),
        default_scope='mmpretrain',
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)) | options.pop('default_hooks', {}),
        experiment_name=name,
        visualizer=dict(type='Visualizer', name=name, vis_backends=[dict(type='LocalVisBackend')]),
        log_level='WARNING',
        **options,
    )


def scalars(runner: MMEngineRunner) -> list[dict]:
    """The lines that the vis backend received."""
    path = Path(runner.work_dir) / runner.timestamp / 'vis_data' / 'scalars.json'
    return [json.loads(line) for line in path.read_text().splitlines()]


def trained(folder: Path, hooks: Sequence[dict] = (), model: nn.Module | None = None, **options: Any) -> Runner:
    """Train and return the Runner."""
    result = runner(folder, model or moco_ft(), custom_hooks=[*hooks], **options)
    result.train()
    return result


def logged_losses(runner: MMEngineRunner) -> list[float]:
    """The training losses that the vis backend received."""
    return [line['loss'] for line in scalars(runner) if 'loss' in line]
