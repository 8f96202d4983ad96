"""Folding checkpoints of models that are not what a config of ours builds: backbones, wrappers, broken weights."""

import copy

import pytest
import torch
from torch import Tensor, nn

from reprefine.engine.cost.counting import count_parameters
from reprefine.engine.errors import UserError
from reprefine.methods.pddr import PDConv, PDLinear, PDResNet, convert_to_pd, reparameterize
from reprefine.methods.pddr.checkpoint import largest_difference
from reprefine.methods.pddr.plain import plain_model, plain_state_dict

from .toys import image, randomise


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
    expected = model(image(2, 3, 9, 8, dtype=torch.float32))
    folding = reparameterize(model, tmp_path / 'trained.pth', tmp_path / 'out.pth', plain=plain)
    target = plain_net() if plain else make()
    if not plain:
        for layer in (target[0], target[3], target[6]):
            layer.switch_to_deploy()
    assert folding.after == count_parameters(target)
    target.load_state_dict(torch.load(tmp_path / 'out.pth', weights_only=True)['state_dict'])  # strict
    torch.testing.assert_close(target(image(2, 3, 9, 8, dtype=torch.float32)), expected, rtol=1e-4, atol=1e-4)
    assert folding.compared == ('' if plain else '3 layers and ') + 'the model for random input of shape 2x3x32x64'


@torch.no_grad()
@pytest.mark.parametrize('host', ['mmdet', 'mmpretrain'])
def test_a_backbone(host, tmp_path):
    options = dict(base_channels=8, stem_channels=8, host=host, pd_cfg=dict(mode='B', group_num='auto'))
    net = PDResNet(18, **options)
    assert net.train() is net
    assert net.eval() is net
    torch.save(net.state_dict(), tmp_path / 'trained.pth')
    reparameterize(net, tmp_path / 'trained.pth', tmp_path / 'out.pth')
    again = PDResNet(18, **options, deploy=True)
    again.load_state_dict(torch.load(tmp_path / 'out.pth', weights_only=True)['state_dict'])
    x = image(2, 3, 64, 64, dtype=torch.float32)
    torch.testing.assert_close(again.eval()(x), net(x))


def test_the_plain_model_may_be_a_single_layer():
    conv = PDConv(8, 16, 3, padding=1, bias=True, group_num=4).eval()
    plain = plain_model(conv)
    torch.testing.assert_close(
        plain(image(2, 8, 5, 5, dtype=torch.float32)), conv(image(2, 8, 5, 5, dtype=torch.float32))
    )
    assert plain_state_dict(PDLinear(3, 2)).keys() == {'weight', 'bias'}


def test_a_layer_that_stays_in_training_form_fails(tmp_path, monkeypatch):
    model = make()
    torch.save(model.state_dict(), tmp_path / 'trained.pth')
    monkeypatch.setattr('reprefine.methods.pddr.checkpoint.switch_to_deploy', lambda model: model)
    with pytest.raises(UserError, match='0 is in training form still'):
        reparameterize(model, tmp_path / 'trained.pth', tmp_path / 'out.pth')
    assert not (tmp_path / 'out.pth').exists()


@torch.no_grad()
def test_weights_that_are_not_finite_are_named(tmp_path):
    model = make()
    model[3].standard2.conv.weight[1, 1, 1, 1] = float('nan')
    torch.save(model.state_dict(), tmp_path / 'trained.pth')
    with pytest.raises(UserError, match=r'1 tensors hold values that are not finite \(3.standard2.conv.weight\)'):
        reparameterize(model, tmp_path / 'trained.pth', tmp_path / 'out.pth')
    assert not (tmp_path / 'out.pth').exists()


class Infinite(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / 0


def test_an_output_that_is_not_finite_is_not_blamed_on_the_fold(tmp_path):
    model = nn.Sequential(*make(), Infinite())
    torch.save(model.state_dict(), tmp_path / 'trained.pth')
    with pytest.raises(UserError, match='the model gives values that are not finite for random input.*before it is'):
        reparameterize(model, tmp_path / 'trained.pth', tmp_path / 'out.pth')


@torch.no_grad()
@pytest.mark.parametrize('index', [0, 3, 6])
def test_any_layer_and_output_that_differs_counts(index):
    trained = make('B')
    folded = copy.deepcopy(trained)
    for layer in (folded[0], folded[3], folded[6]):
        layer.switch_to_deploy()
    assert largest_difference(trained, folded)[0] < 1e-6
    bias = folded[index].reparam.bias if index == 6 else folded[index].reparam_bias[1]
    bias.add_(1)
    assert largest_difference(trained, folded)[0] > 1e-3
