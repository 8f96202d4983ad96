"""Grad-CAM."""

import copy

import pytest
import torch
from mmengine.registry import DefaultScope
from torch import nn

from reprefine.engine.errors import UserError
from reprefine.methods.pddr.analysis import (
    grad_cam,
    grad_cam_maps,
    to_unit_range,
)

from ..toys import SmallClassifier, Twice, random_images


@pytest.fixture(autouse=True, scope='module')
def mmpretrain_scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


def test_grad_cam_map_by_hand():
    activations = torch.tensor([[[[1.0, 2.0]], [[3.0, 1.0]]]])  # two channels of 1x2 positions
    gradients = torch.tensor([[[[1.0, 3.0]], [[-2.0, 0.0]]]])  # channel means 2 and -1
    assert grad_cam_maps(activations, gradients).tolist() == [[[0.0, 3.0]]]


def test_maps_are_normalised_one_by_one_and_a_constant_map_becomes_zero():
    maps = torch.tensor([[[1.0, 3.0, 5.0]], [[0.0, 0.0, 0.0]], [[2.0, 2.0, 2.0]]])
    assert to_unit_range(maps).tolist() == [[[0.0, 0.5, 1.0]], [[0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0]]]


def test_grad_cam_before_a_linear_head_is_the_weighted_sum_of_its_features():
    model, x = SmallClassifier('A'), random_images()
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


def test_grad_cam_is_zero_without_positive_values():
    model = SmallClassifier('A')
    nn.init.constant_(model.head.weight, -1)
    maps, _ = grad_cam(model, model.backbone.layer4, random_images(), torch.tensor([0, 1, 2]))
    assert maps.abs().sum() == 0


@pytest.mark.parametrize('mode', ['A', 'B'])
def test_grad_cam_of_training_and_deployed_form_agree(mode):
    model, x = SmallClassifier(mode), random_images()
    deployed = copy.deepcopy(model)
    deployed.backbone.switch_to_deploy()
    classes = torch.tensor([0, 3, 4])
    maps, _ = grad_cam(model, model.backbone.layer4, x, classes)
    deployed_maps, _ = grad_cam(deployed, deployed.backbone.layer4, x, classes)
    assert maps.max() == 1
    torch.testing.assert_close(deployed_maps, maps, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ('layer', 'message'),
    [
        ('layer', 'the layer Conv2d runs 2 times'),
        ('unused', 'the layer Conv2d runs 0 times'),
        ('aside', 'the logits do not depend on the layer Conv2d'),
        ('tokens', r'the layer Flatten returns shape \[2, 8, 25\].*feature maps'),
    ],
)
def test_grad_cam_needs_a_layer_that_runs_once_on_the_way_to_the_logits(layer, message):
    model = Twice(nn.Conv2d(8, 8, 3, padding=1)).eval()
    x = torch.randn(2, 8, 5, 5, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UserError, match=message):
        grad_cam(model, model.get_submodule(layer), x)
    assert grad_cam(model, model.once, x)[0].shape == (2, 5, 5)
    assert not any(module._forward_hooks for module in model.modules())
