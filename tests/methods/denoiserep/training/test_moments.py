"""Moments of features: against float64 sums over all rows, at any origin, in chunks, subsampled."""

import threading

import pytest
import torch

from reprefine.engine.errors import UserError
from reprefine.methods.denoiserep import FeatureMoments, collect_moments, convert, denoise_layers
from reprefine.methods.denoiserep.functional import expected_l2_loss, linear_betas, optimal_predictor, reverse_step
from reprefine.methods.denoiserep.training import moments as moments_module

from ..toys import TinyConvNet, TinyViT, build, images


def correlated(rows, width, mean, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(width, width, generator=generator, dtype=torch.float64)
    offset = mean * torch.randn(width, generator=generator, dtype=torch.float64)
    return (torch.randn(rows, width, generator=generator, dtype=torch.float64) @ mixing + offset).to(dtype)


def assert_moments(moments, rows, tolerance):
    """Compare, relative to the standard deviations, with all rows ``[R, C]`` summed at once in float64."""
    grouped = rows.double().reshape(len(rows), moments.groups, moments.width).transpose(0, 1)
    mean = grouped.mean(1)
    deviation = grouped - mean[:, None]
    covariance = deviation.mT @ deviation / len(rows)
    scale = covariance.diagonal(dim1=1, dim2=2).sqrt()
    assert moments.count == len(rows)
    assert ((moments.mean - mean) / scale).abs().max() < tolerance
    assert ((moments.covariance - covariance) / (scale[:, :, None] * scale[:, None])).abs().max() < tolerance
    raw = covariance + mean[:, :, None] * mean[:, None]
    torch.testing.assert_close(moments.second_moment, raw, rtol=10 * tolerance, atol=10 * tolerance * raw.abs().max())


@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float64, 1e-12), (torch.float32, 1e-12)])
@pytest.mark.parametrize(('width', 'groups'), [(5, 1), (300, 1), (6, 3)])
def test_several_batches_equal_the_sums_in_float64(width, groups, dtype, tolerance):
    """More rows than one chunk and more channels than one block; the mean is far larger than the spread."""
    rows = correlated(5000, width * groups, mean=100, dtype=dtype)
    moments = FeatureMoments(groups, width)
    for batch in rows.split([1, 2999, 2000]):
        moments.add(batch.reshape(len(batch), -1), -1)
    assert_moments(moments, rows, tolerance)


def least_l2_loss(rows, step):
    """``1 - sigma^2 / C tr((abar Sigma + sigma^2 I)^-1)``, by the singular values of all rows at once."""
    values = torch.linalg.svdvals(rows.double() - rows.double().mean(0)).square() / len(rows)
    return 1 - (step.noise**2 / (step.signal**2 * values + step.noise**2)).mean().item()


@pytest.mark.parametrize('timestep', [1, 24, 999])
@pytest.mark.parametrize('mean', [0, 10])
@pytest.mark.parametrize('scale', [1e-3, 1, 50, 1e4])
@pytest.mark.parametrize('rank', [1, 16, 64])
def test_float32_features_of_any_scale_and_rank_reach_the_least_noise_loss(rank, scale, mean, timestep):
    """Also where the strong directions are a billion times stronger than the noise, and the others empty."""
    generator = torch.Generator().manual_seed(rank)
    mixing = torch.randn(rank, 64, generator=generator) / rank**0.5
    rows = scale * (torch.randn(3000, rank, generator=generator) @ mixing + mean * torch.randn(64, generator=generator))
    step, moments = reverse_step(linear_betas(), timestep), FeatureMoments(1, 64)
    for batch in rows.split(1000):
        moments.add(batch, -1)
    fitted = optimal_predictor(moments.covariance, moments.mean, step, with_constant=True)
    center = rows.double().mean(0)
    deviation = rows.double() - center
    loss = expected_l2_loss((deviation.T @ deviation / len(rows))[None], center[None], *fitted, step).item()
    assert loss == pytest.approx(least_l2_loss(rows, step), rel=0.01)


def test_moments_of_several_processes_are_those_of_all_rows(monkeypatch):
    """Two threads as processes, whose first batches, the fixed points of the products, lie far apart."""
    barrier, given = threading.Barrier(2, timeout=60), {}

    def all_reduce(tensor, op):
        given[threading.get_ident()] = tensor.clone()
        barrier.wait()
        total = sum(given.values())
        barrier.wait()
        tensor.copy_(total)

    monkeypatch.setattr(moments_module, 'all_reduce', all_reduce)
    rows = correlated(900, 6, mean=10, dtype=torch.float64) + torch.linspace(0, 500, 900)[:, None]
    parts = FeatureMoments(2, 3), FeatureMoments(2, 3)
    for index, batch in enumerate(rows.split([100, 150, 300, 350])):
        parts[index % 2].add(batch, -1)
    threads = [threading.Thread(target=part.all_reduce) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for part in parts:
        assert_moments(part, rows, 1e-12)


def test_channel_first_and_channel_last_agree():
    feature = correlated(2 * 3 * 4, 6, mean=1).reshape(2, 3, 4, 6)
    first, last = FeatureMoments(2, 3), FeatureMoments(2, 3)
    first.add(feature.movedim(-1, 1).contiguous(), 1)
    last.add(feature, -1)
    torch.testing.assert_close(first.second_moment, last.second_moment)


@pytest.mark.parametrize('channel_dim', [-1, 1])
def test_only_the_given_positions_are_added(channel_dim):
    feature = correlated(2 * 3 * 4, 6, mean=1, dtype=torch.float64).reshape(2, 3, 4, 6)
    positions = torch.tensor([0, 5, 12, 23])
    moments = FeatureMoments(1, 6)
    moments.add(feature.movedim(-1, channel_dim), channel_dim, positions)
    assert_moments(moments, feature.reshape(-1, 6)[positions], 1e-12)


def test_features_of_low_precision_are_summed_exactly():
    moments = FeatureMoments(1, 2)
    feature = torch.full((1 << 16, 2), 1 + 2**-7, dtype=torch.bfloat16)
    for _ in range(4):
        moments.add(feature, -1)
    assert moments.mean.tolist() == [[1 + 2**-7] * 2]
    assert moments.second_moment[0, 0, 1].item() == (1 + 2**-7) ** 2


def test_empty_features_add_nothing():
    moments = FeatureMoments(1, 3)
    moments.add(torch.zeros(0, 3), -1)
    assert moments.count == 0
    moments.all_reduce()
    moments.add(torch.ones(2, 3), -1)
    assert moments.mean.tolist() == [[1, 1, 1]]


@pytest.mark.parametrize(('factory', 'include'), [(TinyViT, 'all'), (TinyConvNet, 'conv')])
def test_a_fraction_of_the_tokens(factory, include):
    """The fraction is that of every layer, it is reproducible, and the moments estimate those of all tokens."""
    model = build(factory).double().eval()
    convert(model, include)

    def moments_of(fraction, seed=0):
        generator = torch.Generator().manual_seed(seed)
        with collect_moments(model, fraction, generator) as moments, torch.no_grad():
            for batch in range(20):
                model(images(8, batch).double())
        return moments

    everything, half, again = moments_of(1.0), moments_of(0.5), moments_of(0.5)
    for name in denoise_layers(model):
        fraction = half[name].count / everything[name].count
        assert fraction.item() == pytest.approx(0.5, abs=1 / 8)
        assert torch.equal(half[name].second_moment, again[name].second_moment)
        size = everything[name].second_moment.norm()
        assert 0 < (half[name].second_moment - everything[name].second_moment).norm() / size < 0.3


@pytest.mark.parametrize('fraction', [0, -0.1, 1.5])
def test_a_fraction_is_above_zero_and_at_most_one(fraction):
    model = build(TinyViT)
    convert(model, 'all')
    with pytest.raises(UserError, match='token_fraction'), collect_moments(model, fraction):
        pass
