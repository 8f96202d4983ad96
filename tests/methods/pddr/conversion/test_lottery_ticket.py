"""Initialisation of the baseline by the elementwise maximum of the branches of PD-A."""

import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.models import ResNet
from torch import nn

from reprefine.engine.errors import UserError
from reprefine.methods.pddr import PDLinear, PDResNet, convert_to_pd
from reprefine.methods.pddr.conversion.lottery_ticket import elementwise_maximum, lottery_ticket_state

from ..toys import SmallClassifier


@pytest.fixture(autouse=True, scope='module')
def mmpretrain_scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


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
    state = lottery_ticket_state(trained)
    conv = trained.layer2[0].conv1  # 64 to 128 channels, stride 2
    kernels = torch.zeros(5, 128, 64, 3, 3)
    kernels[0], kernels[1] = conv.standard1.conv.weight.data, conv.standard2.conv.weight.data
    kernels[2, :, :, :, 1] = conv.skeleton.vertical.conv.weight.data[:, :, :, 0]
    kernels[3, :, :, 1, :] = conv.skeleton.horizontal.conv.weight.data[:, :, 0, :]
    for output in range(128):  # 64 groups of one channel in and two out
        kernels[4, output, output // 2] = conv.group.conv.weight.data[output, 0]
    assert torch.equal(state['layer2.0.conv1.weight'], kernels.max(0).values)
    norms = [part.bn for _, part in conv.conv_norms()]
    assert len(norms) == 5
    for key in ('weight', 'bias'):
        assert torch.equal(state[f'layer2.0.bn1.{key}'], torch.stack([n.get_parameter(key) for n in norms]).amax(0))


def test_lottery_start_loads_strictly_into_the_plain_network(trained):
    plain = ResNet(18)
    plain.load_state_dict(lottery_ticket_state(trained), strict=True)
    assert plain.layer3[1].bn2.running_mean.abs().sum() == 0
    assert (plain.layer3[1].bn2.running_var == 1).all()
    assert torch.equal(plain.conv1.weight, trained.conv1.weight)
    assert torch.equal(plain.layer3[0].downsample[1].bias, trained.layer3[0].downsample[1].bias)


def test_control_of_the_lottery_draws_the_kernels_anew(trained):
    state, again = (lottery_ticket_state(trained, torch.Generator().manual_seed(7)) for _ in range(2))
    inherited = lottery_ticket_state(trained)
    assert state.keys() == inherited.keys()
    changed = [key for key in state if not torch.equal(state[key], inherited[key])]
    assert len(changed) == 16
    assert all(key.endswith(('conv1.weight', 'conv2.weight')) for key in changed)
    assert all(torch.equal(state[key], again[key]) for key in state)
    deviation = state['layer4.1.conv2.weight'].std().item()
    assert deviation == pytest.approx((2 / (9 * 512)) ** 0.5, rel=0.01)


def test_lottery_needs_pd_a_in_training_form(trained):
    for model in (ResNet(18, base_channels=8, stem_channels=8), SmallClassifier('B')):
        with pytest.raises(UserError, match='training form'):
            lottery_ticket_state(model)


def test_lottery_start_of_a_convolution_with_bias_loads_strictly():
    def plain() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1))

    model = plain()
    convert_to_pd(model, group_num='auto')
    target = plain()
    target.load_state_dict(lottery_ticket_state(model))  # strict
    assert target[0].bias.abs().sum() == 0
    model.append(PDLinear(4, 2))
    with pytest.raises(UserError, match='the transfer needs PD-A convolutions'):
        lottery_ticket_state(model)
