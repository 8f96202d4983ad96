"""Schedule, embedding, noise loss, merges and optimum against closed forms (checks 1, 2, 8, 10)."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from reprefine.methods.denoiserep.functional import (
    blockwise_product,
    ddim_step,
    expected_l2_loss,
    linear_betas,
    merge_input_side,
    merge_output_side,
    no_step,
    optimal_predictor,
    reverse_step,
    sinusoidal_embedding,
)
from reprefine.methods.denoiserep.layers.prediction_loss import noise_prediction_loss

from .toys import constants

# t: beta, sigma, c_e, s, c_x as printed in the specification.
TABLE = {
    1: ('1.019e-4', '0.014209', '7.172e-3', '1.0095e-2', '1.00005095'),
    12: ('1.228e-4', '0.038044', '3.229e-3', '1.1083e-2', '1.00006142'),
    24: ('1.456e-4', '0.055372', '2.631e-3', '1.2068e-2', '1.00007283'),
    26: ('1.494e-4', '0.057984', '2.578e-3', '1.2225e-2', '1.00007473'),
    48: ('1.913e-4', '0.084331', '2.269e-3', '1.3831e-2', '1.00009566'),
    999: ('2.000e-3', '0.806417', '2.483e-3', '4.4721e-2', '1.00100150'),
}


def half_digit(text: str) -> float:
    mantissa, _, exponent = text.partition('e')
    return 0.51 * 10.0 ** (int(exponent or 0) - len(mantissa.partition('.')[2]))


@pytest.mark.parametrize('t', TABLE)
def test_reverse_step_has_the_table_values(t):
    step, betas = reverse_step(linear_betas(), t), linear_betas()
    found = (betas[t].item(), step.noise, step.c_e, step.bias_std, step.c_x)
    for value, printed in zip(found, TABLE[t], strict=True):
        assert value == pytest.approx(float(printed), abs=half_digit(printed), rel=0)
    c = constants(t)
    assert (step.noise, step.c_x, step.c_e) == pytest.approx((c.sigma, c.c_x, c.c_e), rel=1e-10)
    assert all(type(value) is float for value in step)


@pytest.mark.parametrize(('t', 'abar'), [(0, 0.9999), (26, 0.99663788), (999, 0.34969194)])
def test_schedule_is_linear_with_exact_ends(t, abar):
    betas = linear_betas()
    assert (betas[0].item(), betas[-1].item(), len(betas)) == (1e-4, 2e-3, 1000)
    assert betas.dtype == torch.float64
    np.testing.assert_allclose(np.diff(betas.numpy()), 1.9e-3 / 999, rtol=1e-9)
    assert reverse_step(betas, t).signal ** 2 == pytest.approx(abar, abs=5e-9)


def test_one_step_of_noise_and_back_removes_exactly_the_known_noise():
    """With the true noise, the deterministic step gives exactly the less noisy state of the same trajectory."""
    x, eps, betas = torch.randn(50).double(), torch.randn(50).double(), linear_betas()
    step, target = ddim_step(betas, 40, 11), reverse_step(betas, 11)
    noisy = step.signal * x + step.noise * eps
    torch.testing.assert_close(step.c_x * noisy - step.c_e * eps, target.signal * x + target.noise * eps)


@pytest.mark.parametrize('t', [-1, 1000])
def test_timestep_outside_the_schedule_is_refused(t):
    with pytest.raises(ValueError, match='outside the schedule of 1000 steps'):
        reverse_step(linear_betas(), t)


@pytest.mark.parametrize('timestep', [100, 500, 999])
def test_the_deterministic_step_to_0_with_the_optimal_predictor_is_a_wiener_filter(timestep):
    """In every direction of the feature: its variance over variance plus noise, times a factor of all directions."""
    torch.manual_seed(0)
    directions = torch.linalg.qr(torch.randn(6, 6).double())[0]
    variances = torch.tensor([9, 2, 1, 0.5, 0.1, 0]).double()
    covariance = (directions * variances @ directions.T)[None]
    step, abar = ddim_step(linear_betas(), timestep, 0), reverse_step(linear_betas(), timestep).signal ** 2
    predictor, _ = optimal_predictor(covariance, torch.zeros(1, 6).double(), step, with_constant=True)
    applied = directions.T @ (step.c_x * torch.eye(6).double() - step.c_e * predictor) @ directions
    target = reverse_step(linear_betas(), 0)  # it ends at timestep 0, where a little noise is left
    wiener = variances / (variances + (1 - abar) / abar)
    left = target.noise * (1 - abar) ** 0.5 / (abar * variances + 1 - abar)
    torch.testing.assert_close(applied, torch.diag(target.signal / abar**0.5 * wiener + left))


def test_no_step_is_the_identity_with_the_noise_of_its_timestep():
    step, published = no_step(linear_betas(), 300), reverse_step(linear_betas(), 300)
    assert (step.signal, step.noise) == (published.signal, published.noise)
    weight, bias = torch.randn(5, 4), torch.randn(5)
    merged = merge_input_side(weight, bias, torch.randn(4, 4), -step.c_e * torch.randn(4), step)
    assert all(torch.equal(value, own) for value, own in zip(merged, (weight, bias), strict=True))


@pytest.mark.parametrize('to', [5, 6, -1])
def test_ddim_step_must_go_down_inside_the_schedule(to):
    with pytest.raises(ValueError, match='is not below|outside the schedule'):
        ddim_step(linear_betas(), 5, to)


@pytest.mark.parametrize('width', [4, 64, 2048])
def test_time_embedding(width):
    assert torch.equal(sinusoidal_embedding(0, width), torch.tensor([0.0, 1.0]).double().repeat_interleave(width // 2))
    half, t = width // 2, 7
    f = np.exp(-np.arange(half) * math.log(10000) / (half - 1))
    assert f[-1] == pytest.approx(1e-4)
    expected = np.concatenate([np.sin(t * f), np.cos(t * f)])
    np.testing.assert_allclose(sinusoidal_embedding(t, width).numpy(), expected, rtol=0, atol=1e-14)
    assert sinusoidal_embedding(t, width)[half - 1] == pytest.approx(math.sin(7e-4), rel=1e-10)


@pytest.mark.parametrize('columns', [(), (3,)])
@pytest.mark.parametrize('groups', [1, 2, 6])
def test_blockwise_product_is_the_block_diagonal_product(groups, columns):
    predictor, matrix = torch.randn(6, 6 // groups).double(), torch.randn(6, *columns).double()
    dense = torch.block_diag(*predictor.split(6 // groups))
    torch.testing.assert_close(blockwise_product(predictor, matrix), dense @ matrix)


@pytest.mark.parametrize('with_shift', [True, False])
@pytest.mark.parametrize('with_bias', [True, False])
@pytest.mark.parametrize('groups', [1, 2])
def test_merges_are_the_sums_of_the_specification(groups, with_bias, with_shift):
    """W'[o,i] = c_x W[o,i] - c_e sum_m W[o,m] D[m,i] (input), W' = (c_x - c_e D) W (output), index by index."""
    torch.manual_seed(0)
    outs, ins, step = 6, 4, reverse_step(linear_betas(), 3)
    weight, n, m = torch.randn(outs, ins // groups, 3, 2).double(), ins // groups, outs // groups
    bias = torch.randn(outs).double() if with_bias else None
    on_input, on_output = torch.randn(ins, n).double(), torch.randn(outs, m).double()
    shift_in = torch.randn(ins).double() if with_shift else None
    shift_out = torch.randn(outs).double() if with_shift else None
    expected_in, expected_out = step.c_x * weight, step.c_x * weight
    bias_in = torch.zeros(outs).double() if bias is None else bias.clone()
    bias_out = torch.zeros(outs).double() if bias is None else step.c_x * bias
    for o in range(outs):
        q = o // m
        for k in range(n):
            for i in range(n):
                expected_in[o, i] -= step.c_e * weight[o, k] * on_input[q * n + k, i]
            if with_shift:
                bias_in[o] += weight[o, k].sum() * shift_in[q * n + k]
        for k in range(m):
            expected_out[o] -= step.c_e * on_output[o, k] * weight[q * m + k]
            if with_bias:
                bias_out[o] -= step.c_e * on_output[o, k] * bias[q * m + k]
        if with_shift:
            bias_out[o] += shift_out[o]
    for merge, predictor, shift, new_weight, new_bias in (
        (merge_input_side, on_input, shift_in, expected_in, bias_in),
        (merge_output_side, on_output, shift_out, expected_out, bias_out),
    ):
        ours_weight, ours_bias = merge(weight, bias, predictor, shift, step)
        torch.testing.assert_close(ours_weight, new_weight, rtol=0, atol=1e-12)
        if with_bias or with_shift:
            torch.testing.assert_close(ours_bias, new_bias, rtol=0, atol=1e-12)
        else:
            assert ours_bias is None


def sample(groups: int, width: int, count: int = 400, seed: int = 1):
    """Correlated features with a mean, and their moments per group."""
    torch.manual_seed(seed)
    x = torch.randn(groups, count, width).double() @ torch.randn(groups, width, width).double() * 0.3
    x = x + torch.randn(groups, 1, width).double() * 0.5
    deviation = x - x.mean(1, keepdim=True)
    return x, deviation.mT @ deviation / count, x.mean(1)


@pytest.mark.parametrize('with_constant', [True, False])
@pytest.mark.parametrize(('groups', 'width', 't'), [(1, 6, 26), (3, 2, 1), (1, 4, 999)])
def test_optimum_solves_the_augmented_least_squares(groups, width, t, with_constant):
    """Rows a X / sqrt(n) with target 0 and rows sigma I with target I have the expected loss as squared error."""
    x, covariance, mean = sample(groups, width)
    step, c = reverse_step(linear_betas(), t), constants(t)
    predictor, constant = optimal_predictor(covariance, mean, step, with_constant)
    assert (constant is not None) == with_constant
    for q in range(groups):
        rows, count = x[q].numpy(), x.shape[1]
        design = np.concatenate([math.sqrt(c.abar) * rows / math.sqrt(count), c.sigma * np.eye(width)])
        target = np.concatenate([np.zeros((count, width)), np.eye(width)])
        if with_constant:
            ones = np.concatenate([np.full(count, 1 / math.sqrt(count)), np.zeros(width)])
            design = np.column_stack([design, ones])
        solution = np.linalg.lstsq(design, target, rcond=None)[0]
        block = slice(q * width, (q + 1) * width)
        np.testing.assert_allclose(predictor[block].numpy().T, solution[:width], rtol=1e-8, atol=1e-10)
        if with_constant:
            np.testing.assert_allclose(constant[block].numpy(), solution[width], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize('with_constant', [True, False])
@pytest.mark.parametrize('groups', [1, 3])
def test_expected_loss_equals_monte_carlo(groups, with_constant):
    x, covariance, mean = sample(groups, 6 // groups)
    step = reverse_step(linear_betas(), 400)
    torch.manual_seed(2)
    predictor, constant = torch.randn(6, 6 // groups).double(), torch.randn(6).double() if with_constant else None
    feature = x.transpose(0, 1).reshape(-1, 6)[:, :, None, None].repeat(500, 1, 1, 1)
    noise = torch.randn(feature.shape).double()
    simulated = noise_prediction_loss(feature, noise, predictor, constant, step, 'l2', channel_dim=1)
    expected = expected_l2_loss(covariance, mean, predictor, constant, step)
    assert simulated.item() == pytest.approx(expected.item(), rel=5e-3)


@pytest.mark.parametrize('with_constant', [True, False])
def test_optimum_is_stationary_and_has_the_minimum_value(with_constant):
    _, covariance, mean = sample(1, 6)
    step, c = reverse_step(linear_betas(), 26), constants(26)
    predictor, constant = optimal_predictor(covariance, mean, step, with_constant)
    predictor.requires_grad_()
    loss = expected_l2_loss(covariance, mean, predictor, constant, step)
    (gradient,) = torch.autograd.grad(loss, predictor)
    assert gradient.abs().max() < 1e-10
    spread = covariance if with_constant else covariance + mean[..., None] * mean[:, None]
    inverse = torch.linalg.inv(c.abar * spread[0] + c.sigma**2 * torch.eye(6).double())
    assert loss.item() == pytest.approx(1 - c.sigma**2 / 6 * inverse.trace().item(), rel=1e-9)


@pytest.mark.parametrize(('t', 'shrink'), [(26, 0.044), (1, 0.50)])
def test_optimal_step_shrinks_dead_directions_most(t, shrink):
    """c_x - c_e sigma / (abar v + sigma^2): beta / (1 - abar) at v = 0, about beta / 2 at v = 1."""
    step, c = reverse_step(linear_betas(), t), constants(t)
    moment = torch.diag(torch.tensor([0.0, 1.0])).double()[None]
    predictor, _ = optimal_predictor(moment, torch.zeros(1, 2).double(), step, True)
    merged, _ = merge_input_side(torch.eye(2).double(), None, predictor, None, step)
    assert 1 - merged[0, 0].item() == pytest.approx(shrink, abs=0.006)
    assert 1 - merged[0, 0].item() == pytest.approx(c.beta / (1 - c.abar), abs=2e-4)
    assert 1 - merged[1, 1].item() == pytest.approx(c.beta / 2, rel=0.01)


@pytest.mark.parametrize('merge', [merge_input_side, merge_output_side])
def test_zero_predictor_only_scales_the_weight(merge):
    weight, bias, step = torch.randn(3, 3).double(), torch.randn(3).double(), reverse_step(linear_betas(), 24)
    merged, shifted = merge(weight, bias, torch.zeros(3, 3).double(), torch.zeros(3).double(), step)
    torch.testing.assert_close(merged, step.c_x * weight)
    scale = 1 if merge is merge_input_side else step.c_x
    torch.testing.assert_close(shifted, scale * bias)
    x = torch.randn(5, 3).double()
    torch.testing.assert_close(F.linear(x, merged), step.c_x * F.linear(x, weight))
