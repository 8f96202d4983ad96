"""Gradients by the image, guided Grad-CAM, occlusion maps and the panels that show them."""

import copy

import numpy as np
import pytest
import torch
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from mmpretrain.models import ResNet
from torch import nn
from torch.nn import functional as F

from reprefine.engine.cli.launch import load_config
from reprefine.engine.errors import UserError
from reprefine.methods.pddr import PDResNet
from reprefine.methods.pddr.analysis import (
    deconvnet_relu_gradient,
    grad_cam,
    guided_grad_cam,
    guided_relu_gradient,
    input_gradients,
    occlusion_maps,
    to_signed_range,
    to_unit_range,
)
from reprefine.methods.pddr.analysis.attribution.occlusion import occlude, patch_corners
from reprefine.methods.pddr.analysis.attribution.panels import gradient_images, occlusion_images
from reprefine.methods.pddr.analysis.plot import overlay
from reprefine.methods.pddr.analysis.resizing import without_crop
from tests.configs.brief import ROOT

from ..toys import image, randomise

RULES = ('gradient', 'deconvnet', 'guided')
# Of the net below: pre-activations (2, 3, -1), gradients of the hidden units (1, -2, 4).
BY_HAND = {'gradient': [1.0, -2.0], 'deconvnet': [5.0, -4.0], 'guided': [1.0, 0.0]}
HIDDEN, LAST = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0]]), torch.tensor([[0.0, 0.0, 0.0], [1.0, -2.0, 4.0]])


def ignoring(function):
    """Return a function that changes its argument in place, and whose result nobody uses."""

    def run(x):
        function(x)
        return x

    return run


FORMS = {
    'module': nn.ReLU(),
    'module in place': nn.ReLU(inplace=True),
    'F.relu': F.relu,
    'F.relu by name': lambda x: F.relu(input=x, inplace=False),
    'F.relu in place': ignoring(lambda x: F.relu(x, True)),
    'F.relu_': ignoring(F.relu_),
    'torch.relu': torch.relu,
    'torch.relu_': ignoring(torch.relu_),
    'Tensor.relu': lambda x: x.relu(),
    'Tensor.relu_': ignoring(lambda x: x.relu_()),
}


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('rule', RULES)
def test_every_way_to_write_a_relu_has_the_gradient_of_the_rule(rule, form):
    def classify(x):
        return FORMS[form](x[:, :, 0, 0] @ HIDDEN.T) @ LAST.T

    x = torch.tensor([2.0, 3.0])[None, :, None, None]
    gradients, classes = input_gradients(classify, x, torch.tensor([1]), rule)
    assert gradients.flatten().tolist() == BY_HAND[rule]
    assert classes.tolist() == [1]
    assert not x.requires_grad
    ordinary = torch.ones(2, requires_grad=True)
    F.relu(-ordinary).sum().backward()  # the rule ends with the call
    assert ordinary.grad.tolist() == [0.0, 0.0]


def test_formulas_of_the_relus():
    inputs, gradients = torch.tensor([2.0, -1.0, 0.0, 3.0]), torch.tensor([1.0, 5.0, 4.0, -2.0])
    assert guided_relu_gradient(inputs, gradients).tolist() == [1.0, 0.0, 0.0, 0.0]
    assert deconvnet_relu_gradient(inputs, gradients).tolist() == [1.0, 5.0, 4.0, 0.0]


class Classifier(nn.Module):
    """A narrow ResNet-18, PD or plain, with a linear head, in float64."""

    def __init__(self, mode: str | None):
        super().__init__()
        torch.manual_seed(0)
        narrow = dict(stem_channels=8, base_channels=8)
        pd_cfg = dict(mode=mode, group_num='auto')
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            self.backbone = ResNet(18, **narrow) if mode is None else PDResNet(18, pd_cfg=pd_cfg, **narrow)
        self.head = nn.Linear(64, 5)
        randomise(self)
        self.double().eval()

    def forward(self, x):
        return self.head(self.backbone(x)[-1].mean((2, 3)))


def deployed(model):
    clone = copy.deepcopy(model)
    clone.backbone.switch_to_deploy()
    return clone


@pytest.mark.parametrize('mode', [None, 'A', 'B'])
def test_gradient_agrees_with_finite_differences(mode):
    model, x, step = Classifier(mode), image(2, 3, 33, 29), 1e-5
    gradients, classes = input_gradients(model, x)
    with torch.no_grad():
        assert torch.equal(classes, model(x).argmax(1))
    scale = gradients.abs().max()
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(x.shape[1:], generator=generator, dtype=x.dtype)
    for index, label in enumerate(classes):
        with torch.no_grad():
            above, below = (model((x[index] + sign * step * direction)[None])[0, label] for sign in (1, -1))
        expected = (gradients[index] * direction).sum()
        assert ((above - below) / (2 * step) - expected).abs() < 1e-4 * scale
    assert all(parameter.grad is None for parameter in model.parameters())


def test_guided_backpropagation_of_a_resnet_is_that_of_backward_hooks():
    model, x = Classifier(None), image(2, 3, 33, 29)
    gradients, classes = input_gradients(model, x, rule='guided')
    hooked = copy.deepcopy(model)
    relus = [module for module in hooked.modules() if isinstance(module, nn.ReLU)]
    for relu in relus:
        relu.inplace = False
        relu.register_full_backward_hook(lambda _, inputs, __: (inputs[0].clamp_min(0),))
    x.requires_grad_()
    hooked(x).gather(1, classes[:, None]).sum().backward()
    assert len(relus) == 9
    assert x.grad.abs().max() > 0
    torch.testing.assert_close(gradients, x.grad)


@pytest.mark.parametrize('mode', ['A', 'B'])
def test_both_forms_of_a_pd_network_give_the_same_maps(mode):
    model, x = Classifier(mode), image(2, 3, 34, 30)
    clone, classes = deployed(model), model(x).argmax(1)

    def maps(network):
        for rule in RULES:
            yield input_gradients(network, x, classes, rule)[0]
        yield guided_grad_cam(network, network.backbone.layer4, x, classes)[0]
        yield occlusion_maps(network, x, classes, patch=10, stride=12)[0]

    for actual, reference in zip(maps(clone), maps(model), strict=True):
        assert reference.abs().max() > 0
        torch.testing.assert_close(actual, reference, rtol=0, atol=1e-8 * reference.abs().max().item())


def test_guided_grad_cam_is_the_product_of_its_two_parts():
    model, x = Classifier('A'), image(2, 3, 34, 30)
    maps, classes = grad_cam(model, model.backbone.layer3, x)
    gradients, _ = input_gradients(model, x, classes, 'guided')
    product, same = guided_grad_cam(model, model.backbone.layer3, x)
    assert torch.equal(same, classes)
    assert product.shape == x.shape
    for channel in range(3):
        assert torch.equal(product[:, channel], gradients[:, channel] * maps)


@pytest.mark.parametrize(
    ('classify', 'rule', 'message'),
    [
        (lambda x: x.mean((2, 3)), 'guided', "runs no ReLU.*'guided'"),
        (lambda x: x.mean((2, 3)), 'relu', 'use one of gradient, deconvnet, guided'),
        (lambda x: x.detach().mean((2, 3)) * torch.ones(3, requires_grad=True), 'gradient', 'do not depend'),
    ],
)
def test_gradients_that_mean_nothing_are_refused(classify, rule, message):
    with pytest.raises(UserError, match=message):
        input_gradients(classify, image(1, 3, 4, 4), rule=rule)


def occlusion_loop(classify, images, classes, patch, stride, value):
    """The definition, one patch after another."""
    x, half = images.numpy(), patch // 2
    padded = np.pad(x, [(0, 0), (0, 0), (half, half), (half, half)], constant_values=value)
    rows, columns = (range(0, length - patch + 1, stride) for length in padded.shape[2:])
    maps = np.zeros((len(x), len(rows), len(columns)))
    for n, label in enumerate(classes.tolist()):
        clean = classify(torch.from_numpy(padded[n : n + 1]))[0, label].item()
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                hidden = padded[n : n + 1].copy()
                hidden[:, :, row : row + patch, column : column + patch] = value
                maps[n, i, j] = classify(torch.from_numpy(hidden))[0, label].item() - clean
    return maps


@torch.no_grad()
@pytest.mark.parametrize(('patch', 'stride', 'value', 'size'), [(3, 1, 0.0, (6, 7)), (4, 3, 0.5, (3, 3))])
def test_occlusion_is_that_of_the_loop(patch, stride, value, size):
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3).double()

    def classify(x):
        return conv(x).relu().amax((2, 3))

    x = image(2, 3, 6, 7)
    maps, classes = occlusion_maps(classify, x, None, patch, stride, value, batch_size=5)
    assert maps.shape == (2, *size)
    assert torch.equal(classes, classify(F.pad(x, (patch // 2,) * 4, value=value)).argmax(1))
    np.testing.assert_allclose(maps.numpy(), occlusion_loop(classify, x, classes, patch, stride, value), atol=1e-12)
    assert maps.abs().max() > 0.1


def test_occlusion_of_a_linear_classifier_is_the_lost_contribution():
    x, weight = image(1, 3, 5, 5), image(3, 5, 5, seed=2)

    def classify(padded):
        return (padded[:, :, 1:-1, 1:-1] * weight).sum((1, 2, 3))[:, None]

    maps, _ = occlusion_maps(classify, x, patch=3)
    taken = F.conv2d(x * weight, torch.ones(1, 3, 3, 3, dtype=x.dtype), padding=1)
    torch.testing.assert_close(maps, -taken[:, 0])


def test_patches_cover_squares_at_their_corners():
    corners = patch_corners(4, 5, 2, 2)
    assert corners.tolist() == [[0, 0], [0, 2], [2, 0], [2, 2]]
    (first, *_, last) = occlude(torch.ones(1, 4, 5), corners, 2, 0.0)
    assert first[0].tolist() == [[0, 0, 1, 1, 1], [0, 0, 1, 1, 1], [1] * 5, [1] * 5]
    assert last[0].tolist() == [[1] * 5, [1] * 5, [1, 1, 0, 0, 1], [1, 1, 0, 0, 1]]


@pytest.mark.parametrize(('name', 'number'), [('patch', 0), ('stride', -1), ('batch_size', 0)])
def test_numbers_of_the_occlusion_must_be_positive(name, number):
    with pytest.raises(UserError, match=f'{name}={number}: use a positive integer'):
        occlusion_maps(lambda x: x.mean((2, 3)), image(1, 3, 4, 4), **{name: number})


def test_a_patch_larger_than_the_image_covers_it():
    maps, _ = occlusion_maps(lambda x: x.sum((2, 3)), image(1, 1, 3, 3), patch=40)
    assert maps.shape == (1, 4, 4)
    torch.testing.assert_close(maps[0, 2, 2], -image(1, 1, 3, 3).sum())


def test_ranges_of_maps_and_images():
    maps = torch.tensor([[[-4.0, 2.0]], [[0.0, 0.0]]])
    assert to_signed_range(maps).tolist() == [[[-1.0, 0.5]], [[0.0, 0.0]]]
    images = torch.tensor([[[[1.0]], [[2.0]], [[3.0]]], [[[5.0]], [[5.0]], [[5.0]]]])  # over all channels at once
    assert to_unit_range(images).flatten(1).tolist() == [[0.0, 0.5, 1.0], [0.0, 0.0, 0.0]]


def test_overlays():
    picture = np.full((1, 2, 3), 100, np.uint8)
    heat = np.array([[0.0, 1.0]])  # jet: dark blue (0, 0, 127.5), dark red (127.5, 0, 0)
    assert overlay(picture, heat).tolist() == [[[50, 50, 114], [114, 50, 50]]]
    assert overlay(picture, heat, 'map').tolist() == [[[100, 100, 100], [128, 0, 0]]]


def test_panels_have_the_size_of_the_image_and_the_colours_of_the_values():
    (panel,) = gradient_images(torch.tensor([[[[0.0, 4.0]], [[2.0, 4.0]], [[1.0, 0.0]]]]))
    assert panel.tolist() == [[[0, 128, 64], [255, 255, 0]]]
    (panel,) = occlusion_images(torch.tensor([[[-2.0, 0.0, 2.0]]]), (2, 6))
    assert panel.shape == (2, 6, 3)
    assert panel[1, 0].tolist() == [255, 0, 0]
    assert panel[0, 3].tolist() == [254, 254, 255]  # the middle of 256 colours is one of two
    assert panel[0, 5].tolist() == [0, 0, 255]


def test_images_are_resized_as_a_whole_where_the_config_crops():
    cfg = load_config(str(ROOT / 'configs/pddr/classification/resnet18-pdb_8xb32-wide-crop_in1k.py'))
    pipeline = without_crop(cfg.test_dataloader.dataset.pipeline)
    resize = dict(type='Resize', scale=(224, 224), keep_ratio=False, backend='pillow')
    assert [transform['type'] for transform in pipeline] == ['LoadImageFromFile', 'Resize', 'PackInputs']
    assert {key: pipeline[1].get(key) for key in resize} == resize
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        ready = Compose(pipeline[1:])(dict(img=np.zeros((40, 100, 3), np.uint8)))
    assert ready['inputs'].shape == (3, 224, 224)


def test_images_without_crop_stay_or_get_the_size_asked_for():
    load, resize, pack = dict(type='Load'), dict(type='mmpretrain.ResizeEdge', scale=9), dict(type='PackInputs')
    assert without_crop([load, pack]) == [load, pack]
    square = dict(type='Resize', scale=(64, 64), keep_ratio=False)
    assert without_crop([load, pack], 64) == [load, square, pack]
    assert without_crop([load, resize, pack], 64) == [load, square, pack]
    oblong = without_crop([load, resize, dict(type='CenterCrop', crop_size=(10, 20)), pack])
    assert oblong == [load, square | dict(scale=(20, 10)), pack]
    with pytest.raises(UserError, match='the test pipeline Load has no resize'):
        without_crop([load], 64)
