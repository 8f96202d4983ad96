"""The fully connected form of PD-A and PD-B."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reprefine.deploy import switch_to_deploy
from reprefine.engine.errors import UserError
from reprefine.methods.pddr.linear import PDLinear
from reprefine.models.mlp import MLP

PD_A, PD_B = (dict(type='reprefine.PDLinear', mode=mode) for mode in 'AB')


def inputs(number: int = 5) -> torch.Tensor:
    return torch.randn(number, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_pd_a_is_the_sum_of_two_layers():
    layer, x = PDLinear(6, 4).double(), inputs()
    torch.testing.assert_close(layer(x), layer.standard1(x) + layer.standard2(x))


@torch.no_grad()
def test_pd_b_mixes_sample_by_sample():
    layer, x = PDLinear(6, 4, mode='B').double(), inputs()
    for sample, y in zip(x, layer(x), strict=True):
        hidden = (layer.fc1.weight @ sample + layer.fc1.bias).clamp_min(0)
        scores = (layer.fc2.weight @ hidden + layer.fc2.bias).exp()
        first, second = scores / scores.sum()
        weight = first * layer.standard1.weight + second * layer.standard2.weight
        bias = first * layer.standard1.bias + second * layer.standard2.bias
        torch.testing.assert_close(y, F.linear(sample, weight, bias))


@torch.no_grad()
@pytest.mark.parametrize('mode', ['A', 'B'])
def test_folded_equals_unfolded(mode):
    layer, x = PDLinear(6, 4, mode=mode).double(), inputs()
    expected = layer(x)
    switch_to_deploy(layer)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer(x.flip(0)), expected.flip(0), rtol=1e-12, atol=1e-12)
    assert layer.reparam.weight.dtype == torch.float64
    state = layer.state_dict()
    layer.switch_to_deploy()
    assert all(torch.equal(value, layer.state_dict()[key]) for key, value in state.items())
    twin = PDLinear(6, 4, mode=mode, deploy=True).double()
    twin.load_state_dict(state, strict=True)
    torch.testing.assert_close(twin(x), layer(x))


def test_folded_pd_a_is_a_plain_layer():
    layer = PDLinear(6, 4)
    layer.switch_to_deploy()
    assert {key: value.shape for key, value in layer.state_dict().items()} == {
        'reparam.weight': (4, 6),
        'reparam.bias': (4,),
    }


@pytest.mark.parametrize('deploy', [False, True])
def test_a_checkpoint_of_the_other_form_is_refused(deploy):
    state = {f'0.{key}': value for key, value in PDLinear(6, 4, deploy=not deploy).state_dict().items()}
    with pytest.raises(UserError, match=f'deploy={not deploy}'):
        nn.Sequential(PDLinear(6, 4, deploy=deploy)).load_state_dict(state, strict=False)


@pytest.mark.parametrize(('layer_cfg', 'count'), [(None, 50_890), (PD_A, 101_780), (PD_B, 156_440)])
def test_published_parameters(layer_cfg, count):
    assert sum(p.numel() for p in MLP((784, 64, 10), layer_cfg).parameters()) == count


@torch.no_grad()
def test_mlp_activates_between_the_layers_only():
    model = MLP((12, 5, 3)).double()
    x = torch.randn(2, 1, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    first, last = model.layers
    (logits,) = model(x)
    torch.testing.assert_close(logits, last(first(x.reshape(2, 12)).clamp_min(0)))


def test_another_mode_is_refused():
    with pytest.raises(ValueError, match="'C'"):
        PDLinear(6, 4, mode='C')
