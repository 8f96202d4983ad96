"""A base model that is frozen while predictors train is one function: the same output for the same image."""

import pytest
import timm
import torch
import torch.nn.functional as F
from mmpretrain.models.utils import MultiheadAttention
from timm.layers import PatchDropout
from torch import nn
from torchvision.ops import StochasticDepth

from reprefine.methods.denoiserep import convert, noise_loss, set_phase
from reprefine.methods.denoiserep.layers.inspection import is_stochastic


class TorchAttention(nn.MultiheadAttention):
    def forward(self, x):
        return super().forward(x, x, x, need_weights=False)[0]


class DenseLayer(nn.Module):
    """As in DenseNet: the dropout is a function, and there is no module of it."""

    def __init__(self, width):
        super().__init__()
        self.norm, self.drop_rate = nn.BatchNorm1d(width), 0.5

    def forward(self, x):
        x = self.norm(x.transpose(1, 2)).transpose(1, 2)
        return F.dropout(x, p=self.drop_rate, training=self.training)


PARTS = {
    'torch attention': lambda: TorchAttention(16, 2, dropout=0.5, batch_first=True),
    'mmpretrain attention': lambda: MultiheadAttention(16, 2, attn_drop=0.5, proj_drop=0.5),
    'timm attention': lambda: timm.layers.Attention(16, 2, attn_drop=0.5),
    'functional dropout': lambda: DenseLayer(16),
    'stochastic depth': lambda: StochasticDepth(0.5, 'row'),
    'patch dropout': lambda: PatchDropout(0.5, num_prefix_tokens=0),
}


@pytest.mark.parametrize('part', PARTS)
def test_the_frozen_model_draws_no_random_numbers(part):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), PARTS[part](), nn.Linear(16, 4))
    convert(model, r'^2$')
    x = torch.randn(4, 5, 16)
    model.train()
    set_phase(model, 'denoise')
    outputs = [model(x) for _ in range(4)]
    assert all(torch.equal(output, outputs[0]) for output in outputs)
    assert all(module.training for module in model.modules())
    noise_loss(model).backward()
    set_phase(model, 'backbone')
    assert not torch.equal(model(x), model(x))


class PartOfTheLoss(nn.Module):
    """Returns in training what only its loss needs, as decode heads do; its own dropout is a module."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        x = self.drop(x)
        return (x, x) if self.training else x


def test_modules_that_draw_no_random_numbers_stay_in_training_mode():
    model = nn.Sequential(nn.Linear(4, 4), PartOfTheLoss())
    convert(model, 'linear')
    first, second = model.train()(torch.ones(2, 4))
    assert torch.equal(first, second)
    found = [type(module).__name__ for module in model.modules() if is_stochastic(module)]
    assert found == ['Dropout']


def test_stochastic_modules_are_searched_once_and_again_after_a_change(monkeypatch):
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    convert(model, 'linear')
    model.train()
    set_phase(model, 'denoise')
    model(torch.ones(2, 4))
    walks = []
    named_modules = nn.Module.named_modules
    monkeypatch.setattr(
        nn.Module, 'named_modules', lambda self, *a, **k: walks.append(self) or named_modules(self, *a, **k)
    )
    model(torch.ones(2, 4))
    assert not walks
    model[1] = nn.Dropout1d(0.5)
    x = torch.randn(2, 4)
    outputs = [model.train()(x) for _ in range(8)]
    assert all(torch.equal(output, outputs[0]) for output in outputs)
