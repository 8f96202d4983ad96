"""Small vectors and models for the tests of feature transformation."""

from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn
from torch.nn.functional import normalize

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
