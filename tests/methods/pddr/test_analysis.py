"""Grad-CAM, branches, gates and the start of a plain network from PD-A."""

import copy

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.models import ResNet
from scipy.stats import norm
from torch import nn

from reprefine.engine.errors import UserError
from reprefine.methods.pddr import PDConv, PDLinear, PDResNet, convert_to_pd
from reprefine.methods.pddr.analysis import (
    branch_responses,
    branch_weights,
    common_histograms,
    density_of_fit,
    elementwise_maximum,
    find_layer,
    gate_table,
    grad_cam,
    grad_cam_maps,
    lottery_state,
    mean_gates,
    to_unit_range,
)


@pytest.fixture(autouse=True, scope='module')
def mmpretrain_scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


class Classifier(nn.Module):
    """A narrow PD-ResNet-18 with a linear head."""

    def __init__(self, mode: str):
        super().__init__()
        torch.manual_seed(0)
        pd_cfg = dict(mode=mode, group_num='auto')
        self.backbone = PDResNet(18, stem_channels=16, base_channels=16, pd_cfg=pd_cfg, host='mmpretrain')
        self.head = nn.Linear(128, 5)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_var, 0.5, 2)
                for tensor in (module.running_mean, module.weight, module.bias):
                    nn.init.normal_(tensor, 0.3, 0.3)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(x)[-1].mean((2, 3)))


def images(number: int = 3) -> torch.Tensor:
    return torch.randn(number, 3, 64, 48, generator=torch.Generator().manual_seed(1))


def test_grad_cam_map_by_hand():
    activations = torch.tensor([[[[1.0, 2.0]], [[3.0, 1.0]]]])  # two channels of 1x2 positions
    gradients = torch.tensor([[[[1.0, 3.0]], [[-2.0, 0.0]]]])  # channel means 2 and -1
    assert grad_cam_maps(activations, gradients).tolist() == [[[0.0, 3.0]]]


def test_maps_are_stretched_one_by_one_and_a_constant_map_becomes_zero():
    maps = torch.tensor([[[1.0, 3.0, 5.0]], [[0.0, 0.0, 0.0]], [[2.0, 2.0, 2.0]]])
    assert to_unit_range(maps).tolist() == [[[0.0, 0.5, 1.0]], [[0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0]]]


def test_grad_cam_before_a_linear_head_is_the_weighted_sum_of_its_features():
    model, x = Classifier('A'), images()
    maps, classes = grad_cam(model, model.backbone.layer4, x)
    with torch.no_grad():
        features = model.backbone(x)[-1]
        assert torch.equal(classes, model(x).argmax(1))
        raw = torch.einsum('nk,nkhw->nhw', model.head.weight[classes], features).relu()
        enlarged = nn.functional.interpolate(raw[:, None], (64, 48), mode='bilinear')[:, 0]
    low, high = enlarged.amin((1, 2), keepdim=True), enlarged.amax((1, 2), keepdim=True)
    torch.testing.assert_close(maps, (enlarged - low) / (high - low))
    assert maps.shape == (3, 64, 48)
    assert (maps.min(), maps.max()) == (0, 1)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_grad_cam_is_zero_where_nothing_speaks_for_the_class():
    model = Classifier('A')
    nn.init.constant_(model.head.weight, -1)
    maps, _ = grad_cam(model, model.backbone.layer4, images(), torch.tensor([0, 1, 2]))
    assert maps.abs().sum() == 0


@pytest.mark.parametrize('mode', ['A', 'B'])
def test_grad_cam_of_training_and_deployed_form_agree(mode):
    model, x = Classifier(mode), images()
    deployed = copy.deepcopy(model)
    deployed.backbone.switch_to_deploy()
    classes = torch.tensor([0, 3, 4])
    maps, _ = grad_cam(model, model.backbone.layer4, x, classes)
    deployed_maps, _ = grad_cam(deployed, deployed.backbone.layer4, x, classes)
    assert maps.max() == 1
    torch.testing.assert_close(deployed_maps, maps, rtol=0, atol=1e-4)


def test_weights_of_the_branches():
    conv = PDConv(64, 128, 3, padding=1)
    weights = branch_weights(conv)
    assert {name: len(values) for name, values in weights.items()} == {
        'standard1': 9 * 64 * 128,
        'standard2': 9 * 64 * 128,
        'skeleton': 6 * 64 * 128,
        'group': 9 * 128,
    }
    strips = conv.skeleton.vertical.conv.weight, conv.skeleton.horizontal.conv.weight
    assert torch.equal(weights['skeleton'], torch.cat([strip.flatten() for strip in strips]))


@torch.no_grad()
def test_responses_of_the_branches_add_up_to_that_of_pd_a():
    model, x = Classifier('A'), images()
    name, conv = find_layer(model, 'layer4.0.conv2')
    outputs = []
    conv.register_forward_hook(lambda _, __, output: outputs.append(output.clone()))  # the block goes on in place
    responses = branch_responses(lambda: model(x), conv)
    assert name == 'backbone.layer4.0.conv2'
    assert list(responses) == list(conv.branches)
    torch.testing.assert_close(sum(responses.values()), outputs[0].mean((2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(('name', 'message'), [('conv2', 'matches 8 of'), ('layer9', 'matches 0 of')])
def test_a_layer_that_is_not_one_is_refused(name, message):
    with pytest.raises(UserError, match=message):
        find_layer(Classifier('A'), name)


def test_a_folded_layer_has_no_branches():
    model = Classifier('A')
    model.backbone.switch_to_deploy()
    with pytest.raises(UserError, match='folded'):
        find_layer(model)


def test_histograms_share_their_bins():
    groups = {'narrow': torch.tensor([0.0, 0.1, 0.9]), 'wide': torch.tensor([[-1.0, 1.0], [0.0, 0.05]])}
    edges, shares = common_histograms(groups, bins=4)
    assert edges.tolist() == [-1, -0.5, 0, 0.5, 1]
    assert shares['narrow'].tolist() == pytest.approx([0, 0, 2 / 3, 1 / 3])
    assert shares['wide'].tolist() == [0.25, 0, 0.5, 0.25]


def test_density_of_the_fitted_normal():
    values, at = torch.tensor([1.0, 2.0, 4.0, 9.0]), np.linspace(-5, 15, 7)
    expected = norm(values.numpy().mean(), values.numpy().std()).pdf(at)
    np.testing.assert_allclose(density_of_fit(values, at), expected, rtol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize('is_deployed', [False, True])
def test_mean_gates_are_those_of_each_class(is_deployed):
    model, x, classes = Classifier('B'), images(6), torch.tensor([2, 0, 2, 2, 0, 2])
    _, conv = find_layer(model, 'layer2.1.conv1')
    inputs = []
    conv.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    model(x)
    pi = conv.gate(inputs[0])
    if is_deployed:
        model.backbone.switch_to_deploy()
    batches = [(x[:4], classes[:4]), (x[4:], classes[4:])]
    gates, counts = mean_gates(model, batches, num_classes=3)
    assert counts.tolist() == [2, 0, 4]
    assert len(gates) == 16
    found = gates['backbone.layer2.1.conv1']
    torch.testing.assert_close(found[0], pi[classes == 0].mean(0), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found[2], pi[classes == 2].mean(0), rtol=1e-4, atol=1e-6)
    assert found[1].isnan().all()
    torch.testing.assert_close(found[[0, 2]].sum(1), torch.ones(2))


def test_table_of_gates_weighs_classes_by_their_images():
    gates = {'layer': torch.tensor([[0.2, 0.8], [float('nan')] * 2, [0.6, 0.4]])}
    table = gate_table(gates, torch.tensor([3.0, 0.0, 1.0]), ('first', 'second'))
    assert table.splitlines()[-1] == '| layer | 0.300 ± 0.283 | 0.700 ± 0.283 |'
    single = gate_table({'layer': torch.tensor([[0.25, 0.75]])}, torch.tensor([5.0]), ('first', 'second'))
    assert single.splitlines()[-1] == '| layer | 0.250 | 0.750 |'


def test_a_network_without_gate_has_no_gates():
    with pytest.raises(UserError, match='no gate'):
        mean_gates(Classifier('A'), [], 5)


def test_maximum_goes_by_sign():
    tensors = [torch.tensor([-3.0, 1.0]), torch.tensor([-1.0, -2.0]), torch.tensor([-2.0, 0.5])]
    assert elementwise_maximum(tensors).tolist() == [-1.0, 1.0]


@pytest.fixture(scope='module')
def trained():
    """A PD-A ResNet-18 whose norms have all been moved."""
    torch.manual_seed(0)
    model = PDResNet(18, pd_cfg=dict(mode='A'), host='mmpretrain')
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter)
    return model


def test_lottery_start_is_the_maximum_of_the_expanded_kernels(trained):
    state = lottery_state(trained)
    conv = trained.layer2[0].conv1  # 64 to 128 channels, stride 2
    kernels = torch.zeros(5, 128, 64, 3, 3)
    kernels[0], kernels[1] = conv.standard1.conv.weight.data, conv.standard2.conv.weight.data
    kernels[2, :, :, :, 1] = conv.skeleton.vertical.conv.weight.data[:, :, :, 0]
    kernels[3, :, :, 1, :] = conv.skeleton.horizontal.conv.weight.data[:, :, 0, :]
    for output in range(128):  # 64 groups of one channel in and two out
        kernels[4, output, output // 2] = conv.group.conv.weight.data[output, 0]
    assert torch.equal(state['layer2.0.conv1.weight'], kernels.max(0).values)
    norms = [leaf.bn for _, leaf in conv.leaves()]
    assert len(norms) == 5
    for key in ('weight', 'bias'):
        assert torch.equal(state[f'layer2.0.bn1.{key}'], torch.stack([n.get_parameter(key) for n in norms]).amax(0))


def test_lottery_start_loads_strictly_into_the_plain_network(trained):
    plain = ResNet(18)
    plain.load_state_dict(lottery_state(trained), strict=True)
    assert plain.layer3[1].bn2.running_mean.abs().sum() == 0
    assert (plain.layer3[1].bn2.running_var == 1).all()
    assert torch.equal(plain.conv1.weight, trained.conv1.weight)
    assert torch.equal(plain.layer3[0].downsample[1].bias, trained.layer3[0].downsample[1].bias)


def test_control_of_the_lottery_draws_the_kernels_anew(trained):
    state, again = (lottery_state(trained, torch.Generator().manual_seed(7)) for _ in range(2))
    inherited = lottery_state(trained)
    assert state.keys() == inherited.keys()
    drawn = [key for key in state if not torch.equal(state[key], inherited[key])]
    assert len(drawn) == 16
    assert all(key.endswith(('conv1.weight', 'conv2.weight')) for key in drawn)
    assert all(torch.equal(state[key], again[key]) for key in state)
    deviation = state['layer4.1.conv2.weight'].std().item()
    assert deviation == pytest.approx((2 / (9 * 512)) ** 0.5, rel=0.01)


def test_lottery_needs_pd_a_in_training_form(trained):
    for model in (ResNet(18, base_channels=8, stem_channels=8), Classifier('B')):
        with pytest.raises(UserError, match='training form'):
            lottery_state(model)


class Twice(nn.Module):
    """Runs a layer twice, another once on the way to the logits, and a third that the logits do not depend on."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer, self.once, self.aside = layer, nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.tokens, self.unused = nn.Flatten(2), nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.once(self.layer(self.layer(x)))
        self.aside(x)
        return self.tokens(x).mean(2)


@pytest.mark.parametrize(
    ('layer', 'message'),
    [
        ('layer', 'the layer Conv2d runs 2 times'),
        ('unused', 'the layer Conv2d runs 0 times'),
        ('aside', 'the logits do not depend on the layer Conv2d'),
        ('tokens', r'the layer Flatten gives shape \[2, 8, 25\].*feature maps'),
    ],
)
def test_grad_cam_needs_a_layer_that_runs_once_on_the_way_to_the_logits(layer, message):
    model = Twice(nn.Conv2d(8, 8, 3, padding=1)).eval()
    x = torch.randn(2, 8, 5, 5, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UserError, match=message):
        grad_cam(model, model.get_submodule(layer), x)
    assert grad_cam(model, model.once, x)[0].shape == (2, 5, 5)
    assert not any(module._forward_hooks for module in model.modules())


@torch.no_grad()
def test_a_convolution_that_runs_twice_has_no_one_response_and_the_mean_of_its_gates():
    torch.manual_seed(0)
    conv = PDConv(8, 8, 3, padding=1, mode='B', group_num=4)
    model = Twice(conv).eval()
    x, classes = torch.randn(3, 8, 5, 5, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 1, 1])
    with pytest.raises(UserError, match='runs 2 times for one image'):
        branch_responses(lambda: model(x), conv)
    gates, _ = mean_gates(model, [(x[:2], classes[:2]), (x[2:], classes[2:])], 2)
    expected = (conv.gate(x) + conv.gate(conv(x))).mean(0) / 2
    torch.testing.assert_close(gates['layer'][1], expected)
    with pytest.raises(UserError, match='classes from 1 to 1, and the model 1'):
        mean_gates(model, [(x, classes)], 1)


def test_lottery_start_of_a_convolution_with_bias_loads_strictly():
    def plain() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1))

    model = plain()
    convert_to_pd(model, group_num='auto')
    target = plain()
    target.load_state_dict(lottery_state(model))  # strict
    assert target[0].bias.abs().sum() == 0
    model.append(PDLinear(4, 2))
    with pytest.raises(UserError, match='the transfer needs PD-A convolutions'):
        lottery_state(model)
