"""The noise loss of one layer and its gradient, against loops, closed forms and automatic differentiation."""

import math

import numpy as np
import pytest
import torch

from reprefine.methods.denoiserep.functional import linear_betas, predict_noise, reverse_step
from reprefine.methods.denoiserep.layers import prediction_loss
from reprefine.methods.denoiserep.layers.prediction_loss import noise_prediction_loss

from ..toys import constants


def draw_case(channel_dim, groups=1, with_constant=True, batch=5):
    generator = torch.Generator().manual_seed(0)
    shape = (batch, 3, 6) if channel_dim == -1 else (batch, 6, 3, 4)
    x, eps = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    predictor = torch.randn(6, 6 // groups, generator=generator, dtype=torch.float64).requires_grad_()
    constant = torch.randn(6, generator=generator, dtype=torch.float64).requires_grad_() if with_constant else None
    return x, eps, predictor, constant


def autograd_loss(x, eps, predictor, constant, loss_type, channel_dim):
    """The formula in separate steps, differentiated by autograd."""
    c = constants(30)
    noisy = math.sqrt(c.abar) * x + c.sigma * eps
    dense = torch.block_diag(*predictor.split(predictor.shape[1]))
    error = (noisy.movedim(channel_dim, -1) @ dense.T).movedim(-1, channel_dim) - eps
    if constant is not None:
        error = error + (constant if channel_dim == -1 else constant[:, None, None])
    return ('l1' in loss_type) * error.abs().mean() + ('l2' in loss_type) * error.square().mean()


CASES = [(-1, 1), (1, 1), (1, 2), (1, 6)]


@pytest.mark.parametrize('with_constant', [True, False])
@pytest.mark.parametrize('loss_type', ['l1+l2', 'l1', 'l2'])
@pytest.mark.parametrize(('channel_dim', 'groups'), CASES)
def test_loss_and_gradients_equal_those_of_autograd(channel_dim, groups, loss_type, with_constant):
    x, eps, predictor, constant = draw_case(channel_dim, groups, with_constant)
    parameters = [predictor] if constant is None else [predictor, constant]
    step = reverse_step(linear_betas(), 30)
    loss = noise_prediction_loss(x.requires_grad_(), eps, predictor, constant, step, loss_type, channel_dim)
    expected = autograd_loss(x.detach(), eps, predictor, constant, loss_type, channel_dim)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    gradients = torch.autograd.grad(3 * loss, parameters), torch.autograd.grad(3 * expected, parameters)
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-13)
    assert not noise_prediction_loss(x, eps, predictor.detach(), None, step, loss_type, channel_dim).requires_grad


@pytest.mark.parametrize(('channel_dim', 'groups'), CASES)
def test_chunks_give_the_same_loss_and_gradients(channel_dim, groups, monkeypatch):
    """Whether the noise is given as a tensor or drawn chunk by chunk."""
    x, eps, predictor, constant = draw_case(channel_dim, groups)
    step, rows = reverse_step(linear_betas(), 30), eps.reshape(-1, 6) if channel_dim == -1 else eps
    whole = noise_prediction_loss(x, eps, predictor, constant, step, channel_dim=channel_dim)
    monkeypatch.setattr(prediction_loss, 'CPU_CHUNK', 24)
    shapes, taken = [], 0

    def draw(shape):
        nonlocal taken
        shapes.append(shape[0])
        taken += shape[0]
        return rows[taken - shape[0] : taken].clone()

    for noise in (eps, draw):
        chunked = noise_prediction_loss(x, noise, predictor, constant, step, channel_dim=channel_dim)
        gradients = [torch.autograd.grad(loss, (predictor, constant), retain_graph=True) for loss in (whole, chunked)]
        torch.testing.assert_close(chunked, whole, rtol=1e-12, atol=0)
        torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-13)
    assert len(shapes) > 1
    assert sum(shapes) == len(rows)


@pytest.mark.parametrize('channel_dim', [-1, 1])
def test_the_loss_of_an_empty_feature_is_zero(channel_dim):
    """A mask head may see no box at all."""
    x, eps, predictor, constant = draw_case(channel_dim, batch=0)
    loss = noise_prediction_loss(x, eps, predictor, constant, reverse_step(linear_betas(), 3), channel_dim=channel_dim)
    loss.backward()
    assert loss == 0
    assert predictor.grad.abs().sum() == constant.grad.abs().sum() == 0


@pytest.mark.parametrize('channel_dim', [-1, 1])
def test_inputs_are_not_modified(channel_dim):
    case = draw_case(channel_dim)
    before = [tensor.clone() for tensor in case]
    noise_prediction_loss(*case, reverse_step(linear_betas(), 3), channel_dim=channel_dim)
    torch.testing.assert_close([tensor.detach() for tensor in case], [tensor.detach() for tensor in before])


@pytest.mark.parametrize('loss_type', ['l1+l2', 'l1', 'l2'])
@pytest.mark.parametrize('groups', [1, 2])
def test_noise_loss_equals_the_loop_over_pixels(loss_type, groups):
    torch.manual_seed(0)
    channels, step = 4, reverse_step(linear_betas(), 30)
    width = channels // groups
    x, eps = torch.randn(2, 2, channels, 3, 5).double()
    predictor, constant = torch.randn(channels, width).double(), torch.randn(channels).double()
    c, errors = constants(30), []
    for b, i, j in np.ndindex(2, 3, 5):
        for o in range(channels):
            first = o // width * width
            noisy = [
                math.sqrt(c.abar) * x[b, first + k, i, j] + c.sigma * eps[b, first + k, i, j] for k in range(width)
            ]
            estimate = sum(predictor[o, k] * noisy[k] for k in range(width)) + constant[o]
            errors.append((eps[b, o, i, j] - estimate).item())
    expected = ('l1' in loss_type) * np.mean(np.abs(errors)) + ('l2' in loss_type) * np.mean(np.square(errors))
    loss = noise_prediction_loss(x, eps, predictor, constant, step, loss_type, channel_dim=1)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_channel_last_and_channel_first_agree():
    x, eps, predictor, constant = torch.randn(2, 6, 7, 4), torch.randn(2, 6, 7, 4), torch.randn(4, 4), torch.randn(4)
    step = reverse_step(linear_betas(), 9)
    last = noise_prediction_loss(x, eps, predictor, constant, step)
    first = noise_prediction_loss(x.movedim(-1, 1), eps.movedim(-1, 1), predictor, constant, step, channel_dim=1)
    torch.testing.assert_close(first, last)
    torch.testing.assert_close(predict_noise(x, predictor, None, -1), x @ predictor.T)


@pytest.mark.parametrize(
    ('loss_type', 'expected'), [('l1+l2', math.sqrt(2 / math.pi) + 1), ('l1', math.sqrt(2 / math.pi)), ('l2', 1.0)]
)
def test_zero_predictor_has_the_loss_of_the_noise_itself(loss_type, expected):
    generator = torch.Generator().manual_seed(0)
    x, eps = torch.randn(2, 20000, 16, generator=generator)
    step = reverse_step(linear_betas(), 5)
    loss = noise_prediction_loss(x, eps, torch.zeros(16, 16), torch.zeros(16), step, loss_type)
    assert loss.item() == pytest.approx(expected, abs=0.01)
