"""The formulas against closed forms."""

import pytest
import torch
from torch.testing import assert_close

from reprefine.methods.feature_transform import negative_interpolation, positive_extrapolation, score_stats
from reprefine.methods.feature_transform.functional import mean_and_variance, positive_scores, softmax_stats

from .toys import unit, vectors

Q, K, N = vectors()
S = positive_scores(Q, K)
PERM = torch.randperm(24, generator=torch.Generator().manual_seed(5))


def draw(*shape, low=1.0):
    return low + torch.rand(shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


SHAPES = [(), (5, 1), (1, 8), (5, 8)]


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('length', [1.0, 2.5])
@pytest.mark.parametrize('low', [0.0, 1.0, -1.0])
def test_positive_score_has_its_closed_form_for_every_shape_and_length(shape, length, low):
    q, k, lam = Q * length, K * 0.7 * length, draw(*shape, low=low)
    expected = (q * k).sum(1) - (lam * (lam - 1) * (q - k) ** 2).sum(1)
    assert_close(positive_scores(*positive_extrapolation(q, k, lam))[:, 0], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('shape', SHAPES)
def test_extrapolation_makes_every_pair_harder_and_interpolation_easier(shape):
    harder = positive_scores(*positive_extrapolation(Q, K, draw(*shape)))
    easier = positive_scores(*positive_extrapolation(Q, K, draw(*shape, low=0.0)))
    assert (harder < S).all()
    assert (easier > S).all()


def test_score_of_unit_vectors_lies_between_its_bounds_and_reaches_the_lower_one():
    for lam in torch.linspace(1, 2, 9).tolist():
        score = positive_scores(*positive_extrapolation(Q, K, lam))
        assert (score <= S + 1e-12).all()
        assert (score >= 5 * S - 4 - 1e-12).all()
    assert_close(positive_scores(*positive_extrapolation(Q, K, 2.0)), 5 * S - 4, rtol=0, atol=1e-12)
    opposite = positive_scores(*positive_extrapolation(Q, -Q, 2.0))
    assert_close(opposite, torch.full_like(opposite, -9), rtol=0, atol=1e-12)


@pytest.mark.parametrize('shape', SHAPES)
def test_sum_is_kept_and_roles_can_be_swapped(shape):
    lam = draw(*shape)
    q_hat, k_hat = positive_extrapolation(Q, K, lam)
    assert_close(q_hat + k_hat, Q + K, rtol=0, atol=1e-12)
    assert_close(q_hat - k_hat, (2 * lam - 1) * (Q - K), rtol=0, atol=1e-12)
    for swapped in (positive_extrapolation(K, Q, lam), positive_extrapolation(Q, K, 1 - lam)):
        assert_close(swapped, (k_hat, q_hat), rtol=0, atol=1e-12)
    assert_close(positive_extrapolation(Q, Q, lam), (Q, Q), rtol=0, atol=1e-12)


def test_both_vectors_grow_to_the_same_length():
    lam = 1.6
    expected = (1 + 2 * lam * (lam - 1) * (1 - S)).sqrt()[:, 0]
    for vector in positive_extrapolation(Q, K, lam):
        assert_close(vector.norm(dim=1), expected, rtol=0, atol=1e-12)


def test_gradient_for_the_query_is_the_closed_form_and_needs_both_paths():
    lam = 1.4
    c = lam * (lam - 1)
    q = Q.clone().requires_grad_()
    q_hat, k_hat = positive_extrapolation(q, K, lam)
    (gradient,) = torch.autograd.grad((q_hat * k_hat).sum(), q, retain_graph=True)
    assert_close(gradient, (1 + 2 * c) * K - 2 * c * Q, rtol=0, atol=1e-10)
    (one_path,) = torch.autograd.grad((q_hat * k_hat.detach()).sum(), q)
    assert_close(one_path, lam * k_hat.detach(), rtol=0, atol=1e-10)
    assert (one_path - gradient).abs().max() > 0.1


@pytest.mark.parametrize('mu', [0.0, 0.3, 0.5, 1.0])
def test_negatives_are_mixed_as_the_formula_says(mu):
    expected = torch.stack([mu * N[:, i] + (1 - mu) * N[:, PERM[i]] for i in range(24)], dim=1)
    before = N.clone()
    assert_close(negative_interpolation(N, mu, PERM), expected, rtol=0, atol=1e-12)
    assert_close(negative_interpolation(N.T, mu, PERM, dim=0), expected.T, rtol=0, atol=1e-12)
    assert torch.equal(N, before)


def test_degenerate_mixtures():
    assert torch.equal(negative_interpolation(N, 1.0, PERM), N)
    assert torch.equal(negative_interpolation(N, 0.0, PERM), N[:, PERM])
    for mu in (0.2, torch.tensor(0.7), draw(8, 24, low=0.0)):
        assert torch.equal(negative_interpolation(N, mu, torch.arange(24)), N)


@pytest.mark.parametrize('mu', [0.25, 0.5, 0.9])
def test_scalar_mixture_keeps_the_mean_and_shrinks_the_variance_by_the_formula(mu):
    scores = Q @ N
    mixed = Q @ negative_interpolation(N, mu, PERM)
    assert_close(mixed.mean(1), scores.mean(1), rtol=0, atol=1e-12)
    variance, other = scores.var(1, correction=0), scores[:, PERM]
    covariance = ((scores - scores.mean(1, True)) * (other - other.mean(1, True))).mean(1)
    expected = (mu**2 + (1 - mu) ** 2) * variance + 2 * mu * (1 - mu) * covariance
    assert_close(mixed.var(1, correction=0), expected, rtol=0, atol=1e-12)
    assert (expected <= variance + 1e-12).all()
    lengths = negative_interpolation(N, mu, PERM).square().sum(0)
    products = (N * N[:, PERM]).sum(0)
    assert_close(lengths, mu**2 + (1 - mu) ** 2 + 2 * mu * (1 - mu) * products, rtol=0, atol=1e-12)
    assert (lengths <= 1 + 1e-12).all()


def test_an_entry_of_its_own_each_can_make_negatives_longer():
    pair = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    mixed = negative_interpolation(pair, torch.tensor([[1.0, 0.5], [0.0, 0.5]]), torch.tensor([1, 0]))
    assert_close(mixed[:, 0].norm(), torch.tensor(2.0).sqrt())


@pytest.mark.parametrize('mu', [0.35, draw(1, 24, low=0.0)], ids=['batch', 'sample'])
def test_mixed_scores_are_the_scores_of_the_mixed_queue(mu):
    expected = Q @ negative_interpolation(N, mu, PERM)
    assert_close(negative_interpolation(Q @ N, mu, PERM), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize('batch', [1, 5])
def test_statistics_are_those_of_the_released_code(batch):
    """Reduced from its five numbers a sample."""
    pos, neg, temperature = S[:batch], (Q @ N)[:batch], 0.07
    samples = torch.stack(
        [neg.mean(1), neg.var(1), pos[:, 0], (neg / temperature).exp().mean(1), (pos[:, 0] / temperature).exp()], dim=1
    )
    logits = torch.cat([pos, neg], 1) / temperature
    expected = dict(
        neg_mean=samples[:, 0].mean(),
        neg_var=samples[:, 1].mean(),
        pos_mean=samples[:, 2].mean(),
        pos_var=samples[:, 2].var(correction=0),
        exp_neg=samples[:, 3].mean(),
        exp_pos=samples[:, 4].mean(),
        p_pos=logits.softmax(1)[:, 0].mean(),
        contrast_top1=100 * (logits.argmax(1) == 0).double().mean(),
    )
    lse = (neg / temperature).logsumexp(1, keepdim=True)
    stats = score_stats(pos, neg) | softmax_stats(pos, neg.amax(1, keepdim=True), lse, 24, temperature)
    assert stats.keys() == expected.keys()
    for key, value in expected.items():
        assert_close(stats[key], value, rtol=1e-12, atol=1e-12, msg=lambda m, k=key: f'{k}: {m}')
    for key, value in score_stats(pos, neg.T, dim=0).items():
        assert_close(value, expected[key], rtol=1e-12, atol=1e-12)


def test_variance_survives_scores_far_from_zero():
    scores = 0.999 + 1e-4 * unit(3, 50, dtype=torch.float32)
    mean, variance = mean_and_variance(scores, 1)
    assert_close(mean, scores.double().mean(1).float())
    assert_close(variance, scores.double().var(1).float(), rtol=1e-3, atol=0)


def test_probability_of_the_positive_neither_over_nor_underflows():
    pos, lse = torch.tensor([[1.0], [-9.0]]), torch.tensor([[-200.0], [200.0]])
    p = softmax_stats(pos, lse, lse, 4, 0.07)['p_pos']
    assert_close(p, torch.tensor(0.5))
