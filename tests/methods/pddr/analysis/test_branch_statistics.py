"""Weights and responses of the branches of a PD convolution."""

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from scipy.stats import norm

from reprefine.engine.errors import UserError
from reprefine.methods.pddr import PDConv
from reprefine.methods.pddr.analysis import (
    branch_responses,
    branch_weights,
    common_histograms,
    density_of_fit,
    find_pd_conv,
)

from ..toys import SmallClassifier, random_images


@pytest.fixture(autouse=True, scope='module')
def mmpretrain_scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


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
    model, x = SmallClassifier('A'), random_images()
    name, conv = find_pd_conv(model, 'layer4.0.conv2')
    outputs = []
    conv.register_forward_hook(lambda _, __, output: outputs.append(output.clone()))  # the block changes it in place
    responses = branch_responses(lambda: model(x), conv)
    assert name == 'backbone.layer4.0.conv2'
    assert list(responses) == list(conv.branches)
    torch.testing.assert_close(sum(responses.values()), outputs[0].mean((2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ('name', 'message'), [('conv2', 'matches 8 PD convolutions'), ('layer9', 'matches 0 PD convolutions')]
)
def test_a_layer_that_is_not_one_is_refused(name, message):
    with pytest.raises(UserError, match=message):
        find_pd_conv(SmallClassifier('A'), name)


def test_a_deployed_layer_has_no_branches():
    model = SmallClassifier('A')
    model.backbone.switch_to_deploy()
    with pytest.raises(UserError, match='deployed form'):
        find_pd_conv(model)


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
