"""Configs of the deployed form and of the baseline, and copies of models with the baseline's modules."""

from inspect import signature

import pytest
import torch
from mmengine.config import ConfigDict
from torch import nn

from reprefine.deploy import switch_to_deploy
from reprefine.deploy.forms import baseline_config, baseline_copy, deploy_config
from reprefine.engine.errors import UserError
from reprefine.registry import MODELS
from tests.deploy.toys import TwoBranches, baseline_layers, two_layers


class Method(nn.Module):
    """A deployable refinement of a base type."""

    def refine(self, strength: float = 1.0) -> None: ...

    config_options = {'toy': refine}  # noqa: RUF012, as refinements have it

    def switch_to_deploy(self) -> None: ...


class Stays(nn.Module):
    """Changes the training of a base type only."""

    config_options = {'toy': Method.refine}  # noqa: RUF012


def converted(base_type: str, toy: dict, **kwargs: object) -> None:
    """Builds the base with converted layers."""


def options(strength: float = 1.0, deploy: bool = False) -> None:
    """Of the conversion."""


converted.config_options = {'toy': options}


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    kinds = {'ToyMethod': Method, 'ToyStays': Stays, 'ToyConverted': converted, 'ToyLayer': layer}
    for name, kind in kinds.items():
        monkeypatch.setitem(MODELS.module_dict, name, kind)


def layer(size: int, deploy: bool = False) -> None:
    """A layer of a config."""


layer.baseline_config = lambda cfg: dict(type='Linear', size=cfg['size'])


def test_a_method_leaves_its_base_type():
    cfg = ConfigDict(type='reprefine.ToyMethod', base_type='Base', toy=dict(strength=2), backbone=dict(type='ResNet'))
    base = dict(type='Base', backbone=dict(type='ResNet'))
    assert baseline_config(cfg) == deploy_config(cfg) == base
    assert cfg.base_type == 'Base'


def test_a_method_without_deployed_form_stays():
    cfg = dict(type='reprefine.ToyStays', base_type='Base', toy=dict(strength=2))
    assert baseline_config(cfg) == deploy_config(cfg) == cfg


def test_a_conversion_leaves_its_base_type_or_is_deployed():
    cfg = dict(type='reprefine.ToyConverted', base_type='Base', toy=dict(strength=2), depth=3)
    assert baseline_config(cfg) == dict(type='Base', depth=3)
    assert deploy_config(cfg) == cfg | dict(toy=dict(strength=2, deploy=True))
    del cfg['toy']
    assert deploy_config(cfg)['toy'] == dict(deploy=True)


def test_layers_within():
    part = dict(type='reprefine.ToyLayer', size=3)
    cfg = dict(type='reprefine.ToyMethod', base_type='Base', heads=[part, dict(type='Unknown', inner=(part, None))])
    baseline = dict(type='Linear', size=3)
    assert baseline_config(cfg) == dict(type='Base', heads=[baseline, dict(type='Unknown', inner=(baseline, None))])
    assert deploy_config(cfg)['heads'][1]['inner'][0] == part | dict(deploy=True)


PD = dict(type='reprefine.PDResNet', depth=18, pd_cfg=dict(mode='A'), channels_last=True)


def test_parts_of_pddr():
    assert baseline_config(PD) == dict(type='ResNet', depth=18)
    assert baseline_config(PD | dict(host='mmdet', deploy=True)) == dict(type='mmdet.ResNet', depth=18)
    own = set(signature(MODELS.get('reprefine.PDResNet').__init__).parameters) - {'self', 'args', 'kwargs'}
    base = {'zero_init_residual'}
    assert set(baseline_config(PD | dict.fromkeys(own))) - {'type', 'depth'} == base
    assert deploy_config(PD) == PD | dict(deploy=True)
    neck = dict(type='FPN', conv_cfg=dict(type='reprefine.PDConv', mode='A'))
    assert baseline_config(neck) == dict(type='FPN', conv_cfg=None)
    assert deploy_config(neck)['conv_cfg']['deploy'] is True
    mlp = dict(type='reprefine.MLP', layer_cfg=dict(type='reprefine.PDLinear', mode='A'))
    assert baseline_config(mlp) == dict(type='reprefine.MLP', layer_cfg=None)
    assert deploy_config(mlp)['layer_cfg']['deploy'] is True
    part = dict(type='reprefine.PDConverted', base_type='FPN', num_outs=2, pd=dict(mode='A'))
    assert baseline_config(part) == dict(type='FPN', num_outs=2)
    assert deploy_config(part) == part | dict(pd=dict(mode='A', deploy=True))
    with pytest.raises(UserError, match='attention=.*cannot be reparameterised'):
        baseline_config(PD | dict(attention=dict(type='reprefine.SE')))


def test_a_config_without_such_parts_stays():
    cfg = dict(type='ImageClassifier', backbone=dict(type='mmpretrain.ResNet', depth=18), head=dict(type='Nothing'))
    assert baseline_config(cfg) == deploy_config(cfg) == cfg


def test_copies_with_the_modules_of_the_baseline():
    model = switch_to_deploy(two_layers())
    baseline = baseline_copy(model)
    assert baseline.state_dict().keys() == baseline_layers().state_dict().keys()
    x = torch.randn(3, 5)
    assert torch.equal(baseline(x), model(x))
    assert isinstance(model[0], TwoBranches)
    assert isinstance(baseline_copy(model[0]), nn.Linear)


def test_a_layer_without_equal_baseline_is_named(monkeypatch):
    def refuse(self):
        raise UserError('depends on the sample')

    monkeypatch.setattr(TwoBranches, 'baseline_modules', refuse)
    with pytest.raises(UserError, match='0 depends on the sample'):
        baseline_copy(two_layers())
    with pytest.raises(UserError, match='the model depends on the sample'):
        baseline_copy(two_layers()[0])
