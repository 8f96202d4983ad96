"""Reparameterisation of checkpoints of backbones and wrapped models, and of invalid weights."""

import copy

import pytest
import torch
from torch import Tensor, nn

from reprefine.deploy import switch_to_deploy
from reprefine.deploy.checkpoint import reparameterize_checkpoint, reparameterize_file
from reprefine.deploy.compare import compare
from reprefine.deploy.examples import Example
from reprefine.deploy.forms import baseline_copy
from reprefine.engine.cost.counting import count_parameters
from reprefine.engine.errors import UserError
from reprefine.methods.pddr import PDConv, PDLinear, PDResNet, convert_to_pd
from reprefine.methods.pddr.layers.baseline_modules import baseline_state_dict

from .toys import image, randomise

IMAGES = Example(image(2, 3, 9, 8, dtype=torch.float32), None, 'images')


class Wrapper(nn.Module):
    """Keeps its network out of the names of the state dict, as wrappers do whose checkpoints others shall load."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.model = net
        self.register_state_dict_post_hook(self._drop)
        self.register_load_state_dict_pre_hook(self._add)

    @staticmethod
    def _drop(module: nn.Module, state: dict, prefix: str, _: dict) -> None:
        for key in list(state):
            state[key.replace(f'{prefix}model.', prefix, 1)] = state.pop(key)

    @staticmethod
    def _add(module: nn.Module, state: dict, prefix: str, *_: object) -> None:
        for key in list(state):
            state[f'{prefix}model.{key}'] = state.pop(key)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


def plain_net() -> nn.Sequential:
    torch.manual_seed(0)
    convs = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)]
    return randomise(nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))).eval()


def make(mode: str = 'A') -> nn.Sequential:
    net = plain_net()
    convert_to_pd(net, r'\d', mode=mode, group_num='auto')
    net[6] = PDLinear(8, 4)
    return randomise(net).eval()


@torch.no_grad()
@pytest.mark.parametrize('plain', [False, True])
def test_a_wrapper_that_changes_names(plain, tmp_path):
    model = Wrapper(make())
    torch.save(model.state_dict(), tmp_path / 'trained.pth')
    expected = model(IMAGES.inputs)
    target = plain_net() if plain else switch_to_deploy(make())
    result = reparameterize_checkpoint(model, tmp_path / 'trained.pth', [IMAGES], into=target, to_baseline=plain)
    assert count_parameters(result.written) < result.parameters
    torch.testing.assert_close(target(IMAGES.inputs), expected, rtol=1e-4, atol=1e-4)
    assert str(result.comparison) == '3 layers and the model for images, in float64'


@torch.no_grad()
@pytest.mark.parametrize('host', ['mmdet', 'mmpretrain'])
def test_a_backbone(host, tmp_path):
    options = dict(base_channels=8, stem_channels=8, host=host, pd_cfg=dict(mode='B', group_num='auto'))
    net = PDResNet(18, **options)
    assert net.train() is net
    assert net.eval() is net
    torch.save(net.state_dict(), tmp_path / 'trained.pth')
    reparameterize_file(
        net, tmp_path / 'trained.pth', tmp_path / 'out.pth'
    )  # the layers are compared, on random features
    again = PDResNet(18, **options, deploy=True)
    again.load_state_dict(torch.load(tmp_path / 'out.pth', weights_only=True)['state_dict'])
    x = image(2, 3, 64, 64, dtype=torch.float32)
    torch.testing.assert_close(again.eval()(x), net(x))


def test_the_plain_model_may_be_a_single_layer():
    conv = PDConv(8, 16, 3, padding=1, bias=True, group_num=4).eval()
    x = image(2, 8, 5, 5, dtype=torch.float32)
    torch.testing.assert_close(baseline_copy(conv)(x), conv(x))
    assert baseline_state_dict(PDLinear(3, 2)).keys() == {'weight', 'bias'}


@torch.no_grad()
def test_weights_that_are_not_finite_are_named(tmp_path):
    model = make()
    model[3].standard2.conv.weight[1, 1, 1, 1] = float('nan')
    torch.save(model.state_dict(), tmp_path / 'trained.pth')
    with pytest.raises(UserError, match=r'not finite: 3.standard2.conv.weight'):
        reparameterize_file(model, tmp_path / 'trained.pth', tmp_path / 'out.pth')
    assert not (tmp_path / 'out.pth').exists()


@torch.no_grad()
def test_statistics_that_are_not_finite_are_no_error_of_the_reparameterisation(tmp_path):
    model = make()
    model[3].standard2.bn.running_mean[1] = float('inf')
    torch.save(model.state_dict(), tmp_path / 'trained.pth')
    with pytest.raises(UserError, match='the output of the training form for images is not finite'):
        reparameterize_file(model, tmp_path / 'trained.pth', tmp_path / 'out.pth', [IMAGES])


@torch.no_grad()
@pytest.mark.parametrize('index', [0, 3, 6])
@pytest.mark.parametrize('mode', ['A', 'B'])
def test_any_layer_and_output_that_differs_counts(index, mode):
    trained = make(mode)
    deployed_form = switch_to_deploy(copy.deepcopy(trained))
    names = ['0', '3', '6']
    assert compare(trained, deployed_form, [IMAGES], names).worst[1] < 1e-6
    layer = deployed_form[index]
    bias = layer.reparam_bias[1] if hasattr(layer, 'reparam_bias') else layer.reparam.bias
    bias.add_(1000)  # the toy's outputs are as large
    found = compare(trained, deployed_form, [IMAGES], names).differences
    assert [name for name in names if found[name] > 1e-3] == [str(index)]
    assert found['the model for images'] > 1e-3


def test_branches_are_computed_one_by_one():
    conv = PDConv(8, 16, 3, padding=1, group_num=4).eval()
    x = image(2, 8, 5, 5, dtype=torch.float32)
    calls = []
    for _, part in conv.conv_norms():
        part.conv.register_forward_hook(lambda *_: calls.append(1))
    explicit = conv.explicit_output(x)
    assert len(calls) == 5
    torch.testing.assert_close(explicit, conv(x))
    assert conv.compute == 'auto'
