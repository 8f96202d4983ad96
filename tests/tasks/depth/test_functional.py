import numpy as np
import pytest
import torch
from sklearn.metrics import mean_squared_error

from reprefine.tasks.depth.functional import (
    LOG_OFFSET,
    depth_from_bins,
    depth_metrics,
    gradient_loss,
    log_error,
    sig_loss,
)

BINS = torch.linspace(0.001, 10, 256)


def depths(*shape, seed=0, holes=0.0):
    generator = torch.Generator().manual_seed(seed)
    depth = 0.5 + 9 * torch.rand(*shape, generator=generator, dtype=torch.float64)
    return depth * (torch.rand(*shape, generator=generator) >= holes)


def brute_gradient_loss(depth, target):
    """The loss of one map of shape (H, W), pixel by pixel."""
    total = 0.0
    for step in (1, 2, 4, 6):
        d, t = depth[::step, ::step].numpy(), target[::step, ::step].numpy()
        error = np.log(d + 1e-3) - np.log(t + 1e-3)
        changes = 0.0
        for row in range(t.shape[0]):
            for column in range(t.shape[1]):
                for other in ((row + 2, column), (row, column + 2)):
                    if other[0] < t.shape[0] and other[1] < t.shape[1] and t[row, column] > 0 and t[other] > 0:
                        changes += abs(error[row, column] - error[other])
        total += changes / (t > 0).sum()
    return total


def test_uniform_logits_give_the_middle():
    depth = depth_from_bins(torch.full((2, 256, 3, 4), 0.7), BINS)
    assert depth.shape == (2, 1, 3, 4)
    assert depth == pytest.approx(torch.full_like(depth, 5.0005), abs=1e-5)


def test_depth_is_the_mean_over_the_bins():
    logits = torch.randn(2, 256, 3, 4, generator=torch.Generator().manual_seed(0))
    weights = logits.clamp(min=0).double().numpy() + 0.1
    weights /= weights.sum(axis=1, keepdims=True)
    expected = np.tensordot(weights, BINS.double().numpy(), axes=(1, 0))
    assert np.abs(depth_from_bins(logits, BINS)[:, 0].numpy() - expected).max() < 1e-5


@pytest.mark.parametrize(('peak', 'depth'), [(0, 0.001), (255, 10.0), (100, float(BINS[100]))])
def test_depth_stays_between_the_bins(peak, depth):
    logits = torch.zeros(1, 256, 1, 1)
    logits[:, peak] = 1e12
    found = depth_from_bins(logits, BINS).item()
    assert 0.001 <= found <= 10.0
    assert found == pytest.approx(depth, rel=1e-5)


@pytest.mark.parametrize('weight', [0.0, 1.0])
def test_sig_loss_in_closed_form(weight):
    target = depths(2, 1, 20, 30, holes=0.3)
    depth = depths(2, 1, 20, 30, seed=1)
    valid = target > 0
    error = (torch.log(depth + 1e-3) - torch.log(target + 1e-3))[valid].numpy()
    expected = np.sqrt(weight * error.var(ddof=1) + 0.15 * error.mean() ** 2)
    assert sig_loss(depth, target, weight).item() == pytest.approx(expected, rel=1e-10)


def test_sig_loss_does_not_depend_on_the_order_of_pixels():
    depth, target = depths(1, 1, 12, 12), depths(1, 1, 12, 12, seed=1, holes=0.2)
    order = torch.randperm(144, generator=torch.Generator().manual_seed(2))
    shuffled = [x.flatten()[order].reshape(1, 1, 12, 12) for x in (depth, target)]
    assert sig_loss(*shuffled).item() == pytest.approx(sig_loss(depth, target).item(), rel=1e-12)


@pytest.mark.parametrize('holes', [0.0, 0.5, 1.1], ids=['full', 'half', 'no depth at all'])
def test_losses_and_their_gradients_stay_finite_without_error(holes):
    target = depths(2, 1, 14, 14, holes=holes)
    depth = torch.where(target > 0, target, 1.0).requires_grad_()
    losses = [sig_loss(depth, target), gradient_loss(depth, target)]
    assert [loss.item() for loss in losses] == pytest.approx([0, 0], abs=2e-6)
    sum(losses).backward()
    assert depth.grad.abs().max() == 0


def test_gradient_loss_is_the_mean_of_brute_force_over_images():
    depth, target = depths(2, 1, 17, 23), depths(2, 1, 17, 23, seed=1, holes=0.2)
    expected = [brute_gradient_loss(depth[index, 0], target[index, 0]) for index in range(2)]
    assert gradient_loss(depth, target).item() == pytest.approx(np.mean(expected), rel=1e-10)
    for index in range(2):
        alone = gradient_loss(depth[index : index + 1], target[index : index + 1])
        assert alone.item() == pytest.approx(expected[index], rel=1e-10)
    assert min(expected) > 0


def test_gradient_loss_ignores_a_constant_log_error():
    target = depths(2, 1, 16, 16)
    shifted = (target + LOG_OFFSET) * 1.7 - LOG_OFFSET
    assert gradient_loss(shifted, target).item() == pytest.approx(0, abs=1e-10)
    assert log_error(shifted, target) == pytest.approx(torch.full_like(target, np.log(1.7)))
    assert gradient_loss(1.7 * target + 1, target) > 0.01


def test_metrics_of_a_perfect_prediction():
    target = depths(1000)
    assert depth_metrics(target, target) == pytest.approx(
        dict(d1=1, d2=1, d3=1, abs_rel=0, sq_rel=0, rmse=0, rmse_log=0, log10=0, silog=0), abs=1e-9
    )


def test_metrics_against_their_definitions():
    depth, target = depths(500, seed=1), depths(500)
    d, t = depth.numpy(), target.numpy()
    log = np.log(d / t)
    expected = dict(
        d1=np.mean((d < 1.25 * t) & (t < 1.25 * d)),
        d2=np.mean(np.abs(log) < 2 * np.log(1.25)),
        d3=np.mean(np.abs(log) < 3 * np.log(1.25)),
        abs_rel=np.mean(np.abs(d - t) / t),
        sq_rel=np.mean((d - t) ** 2 / t),
        rmse=mean_squared_error(t, d) ** 0.5,
        rmse_log=mean_squared_error(np.log(t), np.log(d)) ** 0.5,
        log10=np.mean(np.abs(log)) / np.log(10),
        silog=100 * np.std(log),
    )
    assert depth_metrics(depth, target) == pytest.approx(expected, rel=1e-10)


def test_silog_does_not_see_the_scale():
    target = depths(200)
    metrics = depth_metrics(3 * target, target)
    assert metrics['silog'] == pytest.approx(0, abs=1e-5)
    assert metrics['rmse_log'] == pytest.approx(np.log(3))
    assert metrics['d3'] == 0
