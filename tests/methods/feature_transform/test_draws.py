"""Laws and shapes of the random draws."""

import pytest
import torch
from scipy import stats
from torch.testing import assert_close

from reprefine.engine.errors import UserError
from reprefine.methods.feature_transform import (
    Coefficient,
    FeatureTransform,
    positive_extrapolation,
    symmetric_beta,
)
from reprefine.methods.feature_transform.functional import positive_scores


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize('alpha', [0.2, 0.5, 0.6, 1.0, 1.6, 2.0, 5.0])
def test_symmetric_beta_has_the_distribution_of_scipy(alpha):
    draws = symmetric_beta(alpha, (100_000,), generator=seeded()).double().numpy()
    # By halves: float32 has many numbers near zero and few near one, where a small alpha puts its draws.
    low = draws[draws < 0.5]
    assert stats.kstest(low, lambda x: 2 * stats.beta(alpha, alpha).cdf(x)).pvalue > 1e-3
    assert stats.binomtest(len(low), len(draws)).pvalue > 1e-3
    if alpha >= 1:
        assert stats.kstest(draws, stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    assert draws.min() >= 0
    assert draws.max() <= 1


def test_the_distribution_test_distinguishes_near_parameters():
    draws = symmetric_beta(1.6, (100_000,), generator=seeded()).double().numpy()
    assert stats.kstest(draws, stats.beta(1.7, 1.7).cdf).pvalue < 1e-6


def test_moments_are_the_published_ones():
    lam = Coefficient(shift=1.0, granularity='sample').sample(200_000, 1, 'cpu', seeded(1))
    mu = Coefficient(alpha=1.6, granularity='sample').sample(200_000, 1, 'cpu', seeded(2))
    assert lam.mean().item() == pytest.approx(1.5, abs=0.002)
    assert lam.var().item() == pytest.approx(0.05, abs=0.001)
    assert mu.mean().item() == pytest.approx(0.5, abs=0.002)
    assert mu.var().item() == pytest.approx(0.0595, abs=0.001)
    assert 1 <= lam.min() < lam.max() <= 2
    assert 0 <= mu.min() < mu.max() <= 1
    q, k = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.8, 0.6]])
    pos = positive_scores(*positive_extrapolation(q, k, lam))
    assert pos.mean().item() == pytest.approx(0.480, abs=0.005)


@pytest.mark.parametrize('dist', ['beta', 'uniform'])
@pytest.mark.parametrize(
    ('granularity', 'lam', 'mu'),
    [('batch', (), ()), ('sample', (3, 1), (1, 7)), ('dim', (1, 4), (4, 1)), ('element', (3, 4), (4, 7))],
)
def test_shapes(dist, granularity, lam, mu):
    side = dict(dist=dist, granularity=granularity)
    draws = FeatureTransform(side, side).sample(3, 7, 4)
    assert draws.lam.shape == lam
    assert draws.mu.shape == mu
    assert sorted(draws.perm.tolist()) == list(range(7))
    assert (draws.lam >= 1).all()
    assert (draws.mu <= 1).all()


def test_uniform_is_uniform():
    draws = Coefficient('uniform', granularity='sample').sample(50_000, 1, 'cpu', seeded())
    assert stats.kstest(draws[:, 0].numpy(), 'uniform').pvalue > 1e-3


def test_every_permutation_is_equally_likely():
    transform = FeatureTransform(pos=None)
    torch.manual_seed(0)
    counts = {}
    for _ in range(2400):
        perm = tuple(transform.sample(1, 4, 2).perm.tolist())
        counts[perm] = counts.get(perm, 0) + 1
    assert len(counts) == 24
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3


def test_a_generator_makes_draws_repeatable_and_spares_the_global_one():
    transform, state = FeatureTransform(), torch.get_rng_state()
    first, again, other = (transform.sample(2, 9, 4, generator=seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(state, torch.get_rng_state())
    assert_close(tuple(first), tuple(again), rtol=0, atol=0)
    assert first.lam != other.lam
    assert not torch.equal(first.perm, other.perm)


def test_one_number_a_side_is_drawn_in_batch_mode(monkeypatch):
    """No array as large as the queue: the only large draw is the permutation."""
    sizes = []

    def spy(shape, *args, real=torch.rand, **kwargs):
        sizes.append(torch.Size(shape).numel())
        return real(shape, *args, **kwargs)

    monkeypatch.setattr(torch, 'rand', spy)
    FeatureTransform().sample(32, 4096, 128)
    assert sizes == [1, 1, 1, 1]  # radius and angle of each side
    sizes.clear()
    FeatureTransform(neg=dict(granularity='element')).sample(32, 4096, 128)
    assert sizes == [1, 1, 4096 * 128, 4096 * 128]


@pytest.mark.parametrize('transform', [FeatureTransform(None, None), FeatureTransform()], ids=['no side', 'off'])
def test_an_inactive_transform_draws_nothing_and_returns_its_arguments(transform):
    transform.enabled = transform.neg is None
    arguments, state = (torch.ones(2, 4), torch.ones(2, 4), torch.ones(4, 9)), torch.get_rng_state()
    assert all(a is b for a, b in zip(transform(*arguments), arguments, strict=True))
    transform.scores(*arguments)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(pos=dict(alpha=0)), 'alpha=0 is not a parameter of a Beta distribution'),
        (dict(neg=dict(alpha=-1.0)), 'alpha=-1.0 is not a parameter'),
        (dict(neg=dict(alpha=float('nan'))), 'alpha=nan is not a parameter'),
        (dict(pos=dict(granularity='channel')), "granularity='channel' is unknown: use one of batch, sample, dim"),
        (dict(neg=dict(dist='normal')), "dist='normal' is unknown: use one of beta, uniform"),
        (dict(post_norm='all'), "post_norm='all' is unknown"),
        (dict(pos=dict(alfa=2.0)), "pos has no argument 'alfa': use dist, alpha, shift, granularity"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(UserError, match='^[^\n]*$') as error:
        FeatureTransform(**arguments)
    assert message in str(error.value)


@pytest.mark.parametrize('shapes', [((2, 4), (2, 4), (5, 9)), ((2, 4), (3, 4), (4, 9)), ((2, 4, 1), (2, 4, 1), (4, 9))])
def test_wrong_shapes_are_named(shapes):
    with pytest.raises(UserError, match='they need .B, D., .B, D. and .D, K.') as error:
        FeatureTransform()(*(torch.ones(shape) for shape in shapes))
    assert str(shapes[2]) in str(error.value)


@pytest.mark.parametrize('options', [dict(dist='uniform'), dict(alpha=2.0)])
def test_draws_compile_with_dynamic_shapes(options):
    """torch.rand with ``generator=None`` does not."""
    coefficient = Coefficient(granularity='element', **options)
    compiled = torch.compile(lambda x: x + coefficient.sample(*x.shape, 'cpu'), backend='eager', dynamic=True)
    torch.manual_seed(0)
    found = compiled(torch.ones(3, 4))
    torch.manual_seed(0)
    assert_close(found, 1 + coefficient.sample(3, 4, 'cpu'))
