"""DenoiseRep over networks of mmpretrain that have a deployed form of their own."""

import copy
from typing import Any

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from reprefine.deploy import switch_to_deploy
from reprefine.engine.errors import UserError
from reprefine.methods.denoiserep import DenoiseRep, reparameterize
from tests.combinations import checks
from tests.methods.denoiserep.toys import ToyClassifier
from tests.methods.pddr.toys import randomise

HEAD = dict(type='LinearClsHead', num_classes=3, loss=dict(type='CrossEntropyLoss'))
REPVGG = dict(num_blocks=[1, 1, 1, 1], width_factor=[0.125, 0.125, 0.125, 0.0625], group_layer_map=None, se_cfg=None)
ONE = dict(num_blocks=[1] * 4, width_factor=[0.25] * 4, num_conv_branches=[2] * 4, num_se_blocks=[0] * 4)
BACKBONES = {
    'RepVGG': (dict(type='RepVGG', arch=REPVGG, out_indices=(3,)), 32),
    'MobileOne': (dict(type='MobileOne', arch=ONE), 128),
    'LeViT': (dict(type='LeViT', arch='128s', img_size=64), 384),
}


def config(name: str, **backbone: Any) -> dict[str, Any]:
    settings, width = BACKBONES[name]
    backbone = dict(copy.deepcopy(settings), **backbone)
    return dict(backbone=backbone, neck=dict(type='GlobalAveragePooling'), head=dict(HEAD, in_channels=width))


def refined(name: str, **denoise: Any) -> nn.Module:
    init_default_scope('mmpretrain')
    denoise = dict(timestep=400, step='ddim', to=20, **denoise)
    return randomise(DenoiseRep(base_type='ImageClassifier', denoise=denoise, **config(name))).eval()


@pytest.mark.parametrize('name', BACKBONES)
def test_predictors_are_merged_before_the_base_model_is_deployed(name):
    """The base model is deployed from the weights of its layers, into which the predictors must be merged first."""
    model, run = refined(name, include='all'), checks.on(torch.randn(2, 3, 64, 64))
    deployed = checks.assert_deploys(model, run)
    baseline = MODELS.build(dict(config(name, deploy=True), type='mmpretrain.ImageClassifier')).eval()
    baseline.load_state_dict(deployed.state_dict(), strict=True)
    checks.assert_close(run(baseline), run(model))


@pytest.mark.parametrize('name', BACKBONES)
def test_reparameterisation_alone_gives_the_training_form_of_the_base_model(name):
    model, run = refined(name, include='all'), checks.on(torch.randn(2, 3, 64, 64))
    deployed = reparameterize(model)
    baseline = MODELS.build(dict(config(name), type='mmpretrain.ImageClassifier')).eval()
    baseline.load_state_dict(deployed.state_dict(), strict=True)
    checks.assert_close(run(baseline), run(model))


@pytest.mark.parametrize('name', BACKBONES)
def test_biases_that_the_base_model_would_drop_are_refused(name):
    with pytest.raises(UserError, match="bias_policy='add' gives backbone.* a bias, which .* leaves out when it is"):
        refined(name, include='all', bias_policy='add')


def test_biases_of_layers_outside_of_deployable_modules_are_added():
    model = refined('RepVGG', include='head', bias_policy='add')
    checks.assert_deploys(model, checks.on(torch.randn(2, 3, 64, 64)))


class Estimator(ToyClassifier):
    """Deploys its parts itself, as mmpose's estimators do."""

    def switch_to_deploy(self) -> None:
        self.found = {type(module) for module in self.modules() if isinstance(module, nn.Linear)}


def test_a_base_model_that_deploys_its_parts_gets_base_layers():
    model = DenoiseRep(base_type=Estimator, denoise=dict(include='mlp')).eval()
    assert switch_to_deploy(model).found == {nn.Linear}
    # Called directly, without the walk through the parts.
    model = DenoiseRep(base_type=Estimator, denoise=dict(include='mlp')).eval()
    model.switch_to_deploy()
    assert model.found == {nn.Linear}
