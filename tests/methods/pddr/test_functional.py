"""Folding algebra, gate and mixtures against the convolutions they stand for."""

import pytest
import torch
import torch.nn.functional as F

from reprefine.engine.errors import UserError
from reprefine.methods.pddr import functional as pd

from .toys import image

CLOSE = dict(rtol=1e-12, atol=1e-12)
GEOMETRY = dict(stride=(1, 1), padding=(1, 1), dilation=(1, 1))


def test_norm_is_fused_with_the_convolution_before_it():
    weight, bias = image(6, 4, 3, 3), image(6)
    gamma, beta, mean, var = image(4, 6).unbind()
    var = var.square()
    kernel, shift = pd.fuse_conv_bn(weight, *pd.affine_of_norm(gamma, beta, mean, var, 1e-3), bias)
    x = image(2, 4, 5, 6)
    expected = F.batch_norm(F.conv2d(x, weight, bias), mean, var, gamma, beta, eps=1e-3)
    torch.testing.assert_close(F.conv2d(x, kernel, shift), expected, **CLOSE)


@pytest.mark.parametrize('size', [3, 5])
def test_strips_form_a_cross(size):
    vertical, horizontal = image(6, 4, size, 1), image(6, 4, 1, size)
    kernel = pd.expand_strips(vertical, horizontal)
    half = size // 2
    x = image(2, 4, 7, 8)
    expected = F.conv2d(x, vertical, padding=(half, 0)) + F.conv2d(x, horizontal, padding=(0, half))
    torch.testing.assert_close(F.conv2d(x, kernel, padding=half), expected, **CLOSE)
    outside = kernel.clone()
    outside[:, :, half, :] = outside[:, :, :, half] = 0
    assert not outside.any()
    torch.testing.assert_close(kernel[:, :, half, half], (vertical + 0)[:, :, half, 0] + horizontal[:, :, 0, half])


@pytest.mark.parametrize(('groups', 'conv_groups'), [(1, 1), (4, 1), (64, 1), (4, 2), (64, 64), (64, 4)])
def test_groups_form_blocks(groups, conv_groups):
    weight = image(128, 64 // groups, 3, 3)
    kernel = pd.expand_groups(weight, groups, conv_groups)
    assert kernel.shape == (128, 64 // conv_groups, 3, 3)
    x = image(2, 64, 5, 6)
    expected = F.conv2d(x, weight, padding=1, groups=groups)
    torch.testing.assert_close(F.conv2d(x, kernel, padding=1, groups=conv_groups), expected, **CLOSE)
    assert kernel.count_nonzero() == 9 * 128 * 64 // groups  # so all else is exactly zero


def test_gate_is_a_softmax_of_two_layers():
    pooled, w1, b1, w2, b2 = image(3, 8), image(2, 8), image(2), image(4, 2), image(4)
    pi = pd.gate_weights(pooled, w1, b1, w2, b2)
    logits = torch.stack([w2 @ (w1 @ z + b1).clamp(min=0) + b2 for z in pooled])
    torch.testing.assert_close(pi, logits.exp() / logits.exp().sum(1, keepdim=True), **CLOSE)


@pytest.mark.parametrize('groups', [1, 2])
@pytest.mark.parametrize('n', [1, 3, 6])  # 6 = as many samples as outputs
@pytest.mark.parametrize('form', ['mixed_kernels_conv', '_grouped_conv', 'mixed_outputs_conv'])
def test_mixtures_weigh_the_branches_of_each_sample(form, n, groups):
    kernels, biases, pi = image(3, 6, 4 // groups, 3, 3), image(3, 6), image(n, 3).softmax(1)
    x = image(n, 4, 5, 7)
    y = getattr(pd, form)(x, pi, kernels, biases, **GEOMETRY, groups=groups)
    branches = [F.conv2d(x, k, b, padding=1, groups=groups) for k, b in zip(kernels, biases, strict=True)]
    expected = sum(pi[:, j, None, None, None] * branch for j, branch in enumerate(branches))
    torch.testing.assert_close(y, expected, **CLOSE)


def test_the_biases_are_mixed_too():
    kernels, pi, x = image(2, 3, 4, 3, 3), torch.tensor([[1.0, 0.0], [0.0, 1.0]]).double(), image(2, 4, 5, 5)
    biases = torch.tensor([[1.0, 2, 3], [10, 20, 30]]).double()
    for form in (pd.mixed_kernels_conv, pd.mixed_outputs_conv):
        gain = form(x, pi, kernels, biases, **GEOMETRY, groups=1) - form(
            x, pi, kernels, 0 * biases, **GEOMETRY, groups=1
        )
        torch.testing.assert_close(gain[:, :, 0, 0], biases, **CLOSE)


def test_group_count():
    assert pd.group_count(64, 128, 192) == 64
    assert pd.group_count('auto', 96, 48) == 16
    assert pd.group_count('auto', 512, 512) == 64
    assert pd.group_count('auto', 256, 256, conv_groups=32) == 256
    with pytest.raises(UserError, match="does not divide 96 input and 128 output channels.*group_num='auto'"):
        pd.group_count(64, 96, 128)
    with pytest.raises(UserError, match='not a multiple of the 8 groups'):
        pd.group_count(4, 64, 64, conv_groups=8)


def test_strips_are_aligned_with_the_kernel():
    assert pd.strip_paddings(3, (1, 1), (1, 1)) == ((1, 0), (0, 1))
    assert pd.strip_paddings(3, (2, 4), (2, 2)) == ((2, 2), (0, 4))
    assert pd.strip_paddings(5, (2, 3), (1, 1)) == ((2, 1), (0, 3))
    assert pd.strip_paddings(3, (6, 7), (1, 4)) == ((6, 3), (5, 7))
    with pytest.raises(UserError, match='padding=.* is smaller than dilation'):
        pd.strip_paddings(5, (1, 1), (1, 1))


@pytest.mark.parametrize('dilation', [(1, 1), (1, 3), (2, 1)])
@pytest.mark.parametrize('padding', [(4, 6), (7, 6)])
def test_strips_are_the_middle_column_and_row_of_the_kernel(padding, dilation):
    """A square kernel that is zero elsewhere gives what the strip gives, border included."""
    generator = torch.Generator().manual_seed(0)
    x, line = torch.randn(1, 1, 9, 11, generator=generator), torch.randn(5, generator=generator)
    vertical, horizontal = pd.strip_paddings(5, padding, dilation)
    for shape, strip_padding, place in (((5, 1), vertical, (slice(None), 2)), ((1, 5), horizontal, (2, slice(None)))):
        kernel = torch.zeros(5, 5)
        kernel[place] = line
        square = torch.nn.functional.conv2d(x, kernel[None, None], padding=padding, dilation=dilation)
        strip = torch.nn.functional.conv2d(x, line.view(1, 1, *shape), padding=strip_padding, dilation=dilation)
        torch.testing.assert_close(strip, square)


@pytest.mark.parametrize('groups', [1, 2])
@pytest.mark.parametrize('layers', [(), (3,)])
def test_a_map_of_the_output_is_composed_with_the_layers_before_it(layers, groups):
    kernels, biases = image(*layers, 6, 4 // groups, 3, 3, seed=1), image(*layers, 6, seed=2)
    weight, shift = image(6, 6 // groups, seed=3), image(6, seed=4)
    mapped, moved = pd.compose_map(kernels.flatten(-3), biases, weight, shift, groups)
    assert mapped.shape == kernels.flatten(-3).shape
    x = image(2, 4, 5, 6)
    flat = zip(*(tensor.reshape(-1, *tensor.shape[len(layers) :]) for tensor in (kernels, biases)), strict=True)
    actual = zip(mapped.view_as(kernels).reshape(-1, 6, 4 // groups, 3, 3), moved.reshape(-1, 6), strict=True)
    for (kernel, bias), (actual_kernel, actual_bias) in zip(flat, actual, strict=True):
        inner = F.conv2d(x, kernel, bias, groups=groups)
        expected = F.conv2d(inner, weight[:, :, None, None], shift, groups=groups)
        torch.testing.assert_close(F.conv2d(x, actual_kernel, actual_bias, groups=groups), expected, **CLOSE)


def test_a_map_of_the_output_keeps_the_type_and_rounds_once():
    kernels, biases, weight, shift = image(6, 9, seed=1), image(6, seed=2), image(6, 6, seed=3), image(6, seed=4)
    rounded = [tensor.bfloat16() for tensor in (kernels, biases, weight, shift)]
    exact = pd.compose_map(*(tensor.double() for tensor in rounded))
    for actual, reference in zip(pd.compose_map(*rounded), exact, strict=True):
        assert actual.dtype == torch.bfloat16
        assert torch.equal(actual, reference.bfloat16())
