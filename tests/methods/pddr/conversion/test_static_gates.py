"""PD-B with one gate for all samples."""

import copy

import pytest
import torch
from mmengine.registry import DefaultScope
from torch import nn

from reprefine.deploy.forms import baseline_copy
from reprefine.engine.errors import UserError
from reprefine.methods.pddr import PDConv, PDResNet
from reprefine.methods.pddr.conversion.static_gates import average_gate_model

from ..toys import image, make_conv, randomise


def network(mode: str = 'B') -> PDResNet:
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = PDResNet(18, stem_channels=8, base_channels=8, pd_cfg=dict(mode=mode, group_num='auto', reduction=4))
    return randomise(model).double().eval()


@torch.no_grad()
@pytest.mark.parametrize('is_deployed', [False, True])
@pytest.mark.parametrize('options', [{}, dict(stride=2, groups=2, branches=('standard1', 'skeleton'))])
def test_a_convolution_uses_the_mean_of_the_gates(is_deployed, options):
    conv = make_conv(mode='B', **options)
    batches = [image(3, 8, 5, 5), image(1, 8, 7, 4, seed=2)]
    gate = torch.cat([conv.gate(batch) for batch in batches]).mean(0)
    x = image(2, 8, 6, 9, seed=3) + 1
    expected = sum(weight * getattr(conv, name)(x) for weight, name in zip(gate, conv.branches, strict=True))
    assert (conv(x) - expected).abs().max() > 1e-3  # the sample's own gate is another
    if is_deployed:
        conv.switch_to_deploy()
    state = copy.deepcopy(conv.state_dict())
    static, means = average_gate_model(conv, batches)
    torch.testing.assert_close(static(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(means[''], gate, rtol=1e-6, atol=1e-9)
    assert (static.mode, static.deploy) == ('A', True)
    assert all(torch.equal(value, state[name]) for name, value in conv.state_dict().items())


@torch.no_grad()
def test_a_network_with_constant_gates_loses_nothing():
    model, x = network(), image(3, 3, 40, 33)
    for conv in model.modules():
        if isinstance(conv, PDConv):
            nn.init.zeros_(conv.gate.fc2.weight)
            nn.init.normal_(conv.gate.fc2.bias)
    expected = model(x)[-1]
    static, means = average_gate_model(model, [image(1, 3, 32, 32, seed=5)])
    assert len(means) == 16
    scale = expected.abs().max().item()
    for form in (static, baseline_copy(static)):
        torch.testing.assert_close(form(x)[-1], expected, rtol=0, atol=1e-6 * scale)


def test_a_static_network_is_a_plain_one():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        plain = PDResNet(18, stem_channels=8, base_channels=8)
    static, _ = average_gate_model(network(), [image(1, 3, 32, 32)])
    plain.load_state_dict(baseline_copy(static).state_dict(), strict=True)


class Detector(nn.Module):
    """A model whose head has a gate that feature extraction does not reach."""

    def __init__(self):
        super().__init__()
        self.backbone, self.head = make_conv(mode='B'), make_conv(16, 16, mode='B')

    def extract_feat(self, x):
        return self.backbone(x)


@pytest.mark.parametrize(
    ('model', 'images', 'message'),
    [
        (lambda: network('A'), [image(1, 3, 32, 32)], 'no PD-B convolution'),
        (network, [], 'averaged over 0 images'),
        (Detector, [image(1, 8, 5, 5)], 'does not run head: '),
    ],
)
def test_gates_without_a_mean_are_refused(model, images, message):
    with pytest.raises(UserError, match=message):
        average_gate_model(model(), images)
