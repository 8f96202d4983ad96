"""Policies of timesteps (check 11)."""

import pytest
import torch
from torch import nn

from reprefine.engine.errors import UserError
from reprefine.methods.denoiserep import convert, denoise_layers
from reprefine.methods.denoiserep.conversion.select import select_layers
from reprefine.methods.denoiserep.conversion.timesteps import assign_timesteps

from ..toys import Block, TinyConvNet, TinyViT, images


class Nested(nn.Module):
    """Blocks within stages, as Swin has them, and a layer beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(nn.ModuleList(Block(4, 0.0) for _ in range(n)) for n in (1, 3))
        self.head = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))

    def forward(self, x):
        for block in [block for stage in self.stages for block in stage]:
            x = block(x)
        return self.head(x)


@pytest.mark.parametrize(('model', 'include'), [(Nested(), 'linear'), (TinyViT(), 'all'), (TinyConvNet(), 'conv')])
def test_descending_is_n_to_1_in_forward_order(model, include):
    calls = []
    rows = convert(model, include)
    for name, layer in denoise_layers(model).items():
        layer.register_forward_hook(lambda module, *_, name=name: calls.append((name, int(module.denoiser.timestep))))
    model(torch.randn(2, 3, 4) if isinstance(model, Nested) else images())
    assert [t for _, t in calls] == list(range(len(rows), 0, -1))
    assert [name for name, _ in calls] == [row.name for row in rows]


@pytest.mark.parametrize(
    ('policy', 'expected'),
    [
        ('descending', [4, 3, 2, 1]),
        ('ascending', [1, 2, 3, 4]),
        (7, [7, 7, 7, 7]),
        ([9, 3, 5, 1], [9, 3, 5, 1]),
        ({r'blocks\.0': 40, r'fc1': 3, r'': 2}, [40, 40, 3, 2]),
        ('reference', [4, 3, 4, 3]),
    ],
)
def test_policies(policy, expected):
    assert [row.timestep for row in convert(TinyViT(), 'mlp', timestep=policy)] == expected


def test_as_many_layers_as_the_schedule_allows():
    assert [row.timestep for row in convert(TinyViT(), 'mlp', steps=5)] == [4, 3, 2, 1]


@pytest.mark.parametrize(
    ('policy', 'expected'), [(2, [2, 2, 2, 2]), ([2, 1, 2, 1], [2, 1, 2, 1]), ({'fc1': 1, '': 2}, [1, 2, 1, 2])]
)
def test_a_policy_that_may_repeat_timesteps_needs_no_step_for_each_layer(policy, expected):
    assert [row.timestep for row in convert(TinyViT(), 'mlp', steps=3, timestep=policy)] == expected


@pytest.mark.parametrize('policy', ['descending', 'ascending', 'reference'])
def test_a_policy_that_counts_needs_a_step_for_each_layer(policy):
    with pytest.raises(UserError, match='4 layers need 4 timesteps, but the schedule has 4 steps: raise steps'):
        convert(TinyViT(), 'mlp', steps=4, timestep=policy)


def vit_of_the_tutorial(depth: int, with_head: bool) -> nn.Module:
    """Module tree of the CIFAR tutorial's ViT: patch embedding, (qkv, out), (fc1, fc2) per block, head."""
    block = lambda: nn.ModuleList(  # noqa: E731
        [
            nn.ModuleDict(
                {'norm': nn.LayerNorm(4), 'to_qkv': nn.Linear(4, 4), 'to_out': nn.Sequential(nn.Linear(4, 4))}
            ),
            nn.ModuleDict({'net': nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Dropout(), nn.Linear(4, 4))}),
        ]
    )
    tree = {'patch': nn.Sequential(nn.Identity(), nn.Linear(4, 4))}
    tree['transformer'] = nn.ModuleDict({'layers': nn.ModuleList(block() for _ in range(depth))})
    return nn.ModuleDict(tree | ({'mlp_head': nn.Linear(4, 4)} if with_head else {}))


def test_reference_policy_reproduces_the_released_counters():
    cifar = vit_of_the_tutorial(6, True)
    names = [c.name for c in select_layers(cifar, '')]
    timesteps = list(assign_timesteps(names, 'reference', 1000).values())
    assert timesteps == [26, *[26, 25, 26, 25] * 6, 26]
    reid = TinyViT(depth=12)
    assert [row.timestep for row in convert(reid, 'mlp', timestep='reference')] == [24, 23] * 12
    by_mmcv = [f'backbone.layers.{i}.ffn.layers.{fc}' for i in range(12) for fc in ('0.0', '1')]
    assert list(assign_timesteps(by_mmcv, 'reference', 1000).values()) == [24, 23] * 12
