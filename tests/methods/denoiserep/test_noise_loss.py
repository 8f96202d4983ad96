"""The noise loss of a model: the layers that it sums, and when it is cleared (check 12)."""

import warnings

import pytest
import torch
from torch import nn

from reprefine.engine.errors import UserError
from reprefine.methods.denoiserep import convert, denoise_layers, noise_loss, set_phase
from reprefine.methods.denoiserep.conversion.converted import denoise_state

from .toys import TinyConvNet, TinyViT, build, converted, explicit_noise_loss, images


@pytest.mark.parametrize(('factory', 'include'), [(TinyViT, 'all'), (TinyConvNet, 'conv')])
def test_noise_loss_is_the_sum_over_layers_of_the_last_forward(factory, include):
    """Equals the formula on every layer's feature with the same noise; three earlier passes change nothing."""
    model = converted(factory, include).train()
    state = denoise_state(model)
    for _ in range(3):
        model(images(4, 3).double())
    features = {}
    handles = [
        layer.register_forward_hook(
            lambda module, inputs, output, name=name: features.update(
                {name: inputs[0] if module.side == 'input' else output}
            )
        )
        for name, layer in denoise_layers(model).items()
    ]
    state.generator = torch.Generator().manual_seed(7)
    model(images().double())
    replay, expected = torch.Generator().manual_seed(7), 0.0
    for name, layer in denoise_layers(model).items():
        noise = torch.randn(features[name].shape, generator=replay, dtype=torch.float64)
        expected += explicit_noise_loss(
            features[name], noise, layer, int(layer.denoiser.timestep), dim=layer.channel_dim
        ).item()
    assert noise_loss(model).item() == pytest.approx(expected, rel=1e-12)
    assert noise_loss(model).item() == 0
    assert all(handle.remove() is None for handle in handles)


@pytest.mark.parametrize('mode', ['eval', 'backbone', 'eval_only'])
def test_no_noise_loss_in_other_phases_and_modes(mode):
    model = converted(TinyViT, 'all')
    if mode == 'eval':
        model.eval()
    else:
        set_phase(model, mode)
    model(images().double())
    assert noise_loss(model) == 0


def test_a_failed_forward_leaves_no_losses():
    model = converted(TinyViT, 'all', dtype=torch.float32, exclude='head').train()
    with warnings.catch_warnings(), pytest.raises(RuntimeError):
        warnings.simplefilter('error')  # no complaint that layers did not run
        model(torch.zeros(2, 4, 8, 8))
    state = denoise_state(model)
    assert not state._is_recording
    assert model.neck.training
    model.blocks[0](torch.randn(1, 4, 8))  # outside the root's forward
    assert not state.pop_losses()


class Shared(nn.Module):
    """One layer on two feature sizes, as a detection head runs on every pyramid level."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 4)

    def forward(self, small, large):
        return self.head(small).sum() + self.head(large).sum()


def test_a_layer_called_twice_yields_one_mean_over_all_elements():
    model = Shared().double()
    convert(model, 'linear')
    small, large = torch.randn(2, 3, 4).double(), torch.randn(2, 9, 4).double()
    denoise_state(model).generator = torch.Generator().manual_seed(1)
    model(small, large)
    replay = torch.Generator().manual_seed(1)
    noise = [torch.randn(x.shape, generator=replay, dtype=torch.float64) for x in (small, large)]
    expected = explicit_noise_loss(torch.cat([small, large], 1), torch.cat(noise, 1), model.head, 1)
    assert noise_loss(model).item() == pytest.approx(expected.item(), rel=1e-12)


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.used(x)


def test_a_layer_that_never_runs_is_reported_once():
    model = Unused()
    convert(model, 'linear')
    with pytest.warns(UserWarning, match='1 converted layers did not run .* idle; exclude them'):
        model(torch.zeros(2, 4))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        model(torch.zeros(2, 4))


@pytest.mark.parametrize('checkpoint', [None, True, False])
def test_a_pass_through_a_part_of_the_model_is_an_error(checkpoint):
    """Recomputation in the backward pass is none."""
    model = build(TinyViT, checkpoint=checkpoint).train()
    convert(model, 'mlp')
    (model(images()).sum() + noise_loss(model)).backward()
    assert noise_loss(model) == 0
    model.blocks[0](torch.ones(1, 4, 8))
    with pytest.raises(UserError, match='a part of the model alone'):
        noise_loss(model)
    model(images())
    assert noise_loss(model) > 0
