"""The fully connected form of PD-A and PD-B."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reprefine.deploy import switch_to_deploy
from reprefine.engine.errors import UserError
from reprefine.methods.pddr.layers.linear import PDLinear
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
def test_deployed_equals_training_form(mode):
    layer, x = PDLinear(6, 4, mode=mode).double(), inputs()
    expected = layer(x)
    switch_to_deploy(layer)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer(x.flip(0)), expected.flip(0), rtol=1e-12, atol=1e-12)
    assert layer.reparam.weight.dtype == torch.float64
    state = layer.state_dict()
    layer.switch_to_deploy()
    assert all(torch.equal(value, layer.state_dict()[key]) for key, value in state.items())
    clone = PDLinear(6, 4, mode=mode, deploy=True).double()
    clone.load_state_dict(state, strict=True)
    torch.testing.assert_close(clone(x), layer(x))


def test_deployed_pd_a_is_a_linear_layer():
    layer = PDLinear(6, 4)
    layer.switch_to_deploy()
    assert {key: value.shape for key, value in layer.state_dict().items()} == {
        'reparam.weight': (4, 6),
        'reparam.bias': (4,),
    }


def test_deployed_weights_are_refused_by_the_training_form():
    state = {f'0.{key}': value for key, value in PDLinear(6, 4, deploy=True).state_dict().items()}
    with pytest.raises(UserError, match='0 has the deployed form in the checkpoint.*deploy=True'):
        nn.Sequential(PDLinear(6, 4)).load_state_dict(state, strict=False)


@torch.no_grad()
@pytest.mark.parametrize('mode', ['A', 'B'])
def test_a_deployed_layer_reparameterises_the_training_form_it_loads(mode):
    trained, deployed = nn.Sequential(PDLinear(6, 4, mode)), nn.Sequential(PDLinear(6, 4, mode, deploy=True))
    deployed.load_state_dict(trained.state_dict())  # strict
    torch.testing.assert_close(deployed(inputs().float()), trained(inputs().float()))


@pytest.mark.parametrize('deploy', [False, True])
@pytest.mark.parametrize('mode', ['A', 'B'])
def test_another_layer_is_refused(mode, deploy):
    layer, state = nn.Sequential(PDLinear(6, 4, mode, deploy)), nn.Sequential(PDLinear(6, 4, mode)).state_dict()
    other = nn.Sequential(PDLinear(6, 4, 'B' if mode == 'A' else 'A')).state_dict()
    cut = {key: value for key, value in state.items() if key != '0.standard2.bias'}
    for wrong in (other, cut, nn.Sequential(nn.Linear(6, 4)).state_dict()):
        with pytest.raises(UserError, match=rf'0: the checkpoint does not match PD-{mode}'):
            layer.load_state_dict(wrong, strict=False)
    assert layer.load_state_dict({}, strict=False).missing_keys


@torch.no_grad()
@pytest.mark.parametrize('deploy', [False, True])
@pytest.mark.parametrize('mode', ['A', 'B'])
def test_each_vector_of_a_sequence_is_a_sample(mode, deploy):
    layer = PDLinear(6, 4, mode).double()
    if deploy:
        layer.switch_to_deploy()
    x = inputs(15)
    for shape in ((3, 5), (3, 1, 5), (15, 1)):
        torch.testing.assert_close(layer(x.reshape(*shape, 6)), layer(x).reshape(*shape, 4))
    torch.testing.assert_close(layer(x[0]), layer(x)[0])
    assert layer(x[:0]).shape == (0, 4)


def test_a_frozen_layer_stays_frozen():
    layer = PDLinear(6, 4).requires_grad_(False)
    layer.switch_to_deploy()
    assert not layer.reparam.weight.requires_grad
    assert not layer.reparam.bias.requires_grad


@pytest.mark.parametrize('mode', ['A', 'B'])
def test_output_under_autocast_is_of_the_low_precision_as_a_linear_layer(mode):
    with torch.autocast('cpu', torch.bfloat16):
        assert PDLinear(6, 4, mode)(inputs().float()).dtype == torch.bfloat16


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
    with pytest.raises(UserError, match="'C'"):
        PDLinear(6, 4, mode='C')
