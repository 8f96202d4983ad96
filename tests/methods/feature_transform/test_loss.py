"""Loss, gradient and statistics of one pass against a straightforward implementation."""

import pytest
import torch
from mmpretrain.models.heads import ContrastiveHead
from torch.nn.functional import normalize
from torch.testing import assert_close

from reprefine.methods.feature_transform import FeatureTransform, queue_cross_entropy
from reprefine.methods.feature_transform.loss import ContrastiveFeatures
from reprefine.methods.feature_transform.queues import contrastive_loss, is_standard_head
from reprefine.methods.feature_transform.score_files import KEYS

from .toys import vectors

GRANULARITIES = ['batch', 'sample', 'dim', 'element']
SIDES = [(None, {}), ({}, None), ({}, {}), (None, None)]


def head_of(temperature=0.2, **loss):
    return ContrastiveHead(dict(type='mmpretrain.CrossEntropyLoss', **loss), temperature)


def reference(transform, draws, arguments, temperature):
    """Loss, gradient and scores by explicit vectors and the head of mmpretrain."""
    q, k, queue = arguments
    q = q.detach().clone().requires_grad_()
    q_hat, k_hat, queue_hat = transform(q, k, queue, draws)
    pos, neg = (q_hat * k_hat).sum(1, keepdim=True), q_hat @ queue_hat
    loss = head_of(temperature).loss(pos, neg)
    return loss.detach(), torch.autograd.grad(loss, q)[0], pos.detach(), neg.detach()


@pytest.mark.parametrize('post_norm', [None, 'pos', 'neg', 'both'])
@pytest.mark.parametrize('granularity', GRANULARITIES)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_equals_the_head_on_explicit_vectors(post_norm, granularity, dtype):
    arguments = vectors(dtype=dtype)
    transform = FeatureTransform(dict(granularity=granularity), dict(granularity=granularity), post_norm)
    draws = transform.sample(5, 24, 8)
    draws = draws._replace(lam=draws.lam.to(dtype))
    expected = reference(transform, draws, arguments, 0.07)
    close = dict(rtol=0, atol=1e-5) if dtype == torch.float32 else dict(rtol=1e-6, atol=1e-6)

    q = arguments[0].clone().requires_grad_()
    loss, _ = queue_cross_entropy(transform.contrastive_features(q, *arguments[1:], draws), 0.07)
    loss.backward()
    assert_close((loss.detach(), q.grad), expected[:2], **close)
    assert_close(transform.scores(*arguments, draws), expected[2:], **close)


def test_negatives_are_scored_with_the_transformed_query():
    q, k, queue = vectors()
    transform = FeatureTransform()
    draws = transform.sample(5, 24, 8)
    q_hat, _, queue_hat = transform(q, k, queue, draws)
    neg = transform.scores(q, k, queue, draws)[1]
    assert_close(neg, q_hat @ queue_hat, rtol=0, atol=1e-6)
    assert (neg - q @ queue_hat).abs().max() > 0.01


@pytest.mark.parametrize('mu', [None, torch.tensor(0.3), torch.rand(1, 24, dtype=torch.float64)])
def test_gradient_is_the_numerical_one(mu):
    q, k, queue = vectors()
    perm = torch.randperm(24)

    def loss(q, scale):
        contrastive_features = ContrastiveFeatures(q * scale, k + 0.1 * q, queue, mu, None if mu is None else perm)
        return 3 * queue_cross_entropy(contrastive_features, 0.2)[0]

    assert torch.autograd.gradcheck(loss, (q.requires_grad_(), torch.tensor(1.5, dtype=q.dtype, requires_grad=True)))


@pytest.mark.parametrize('shortcut', [True, False], ids=['standard head', 'other head'])
@pytest.mark.parametrize('sides', SIDES)
def test_statistics_are_those_of_the_scores(sides, shortcut):
    """Both ways; the raw ones are the statistics with the transform off."""
    arguments, transform = vectors(), FeatureTransform(*sides)
    head = head_of(0.07) if shortcut else head_of(0.07, loss_weight=2.0)
    assert is_standard_head(head) is shortcut
    torch.manual_seed(0)
    loss, stats = contrastive_loss(transform, head, *arguments)
    torch.manual_seed(0)
    pos, neg = transform.scores(*arguments)
    assert stats.keys() == set(KEYS)
    assert not any('loss' in key for key in stats)
    logits = torch.cat([pos, neg], 1) / 0.07
    expected = dict(
        pos_mean=pos.mean(),
        pos_var=pos.var(correction=0),
        neg_mean=neg.mean(),
        neg_var=neg.var(1).mean(),
        exp_pos=logits[:, 0].exp().mean(),
        exp_neg=logits[:, 1:].exp().mean(),
        p_pos=logits.softmax(1)[:, 0].mean(),
        contrast_top1=100 * (logits.argmax(1) == 0).double().mean(),
    )
    for key, value in expected.items():
        assert_close(stats[key], value, rtol=1e-9, atol=1e-9, msg=lambda m, k=key: f'{k}: {m}')
    transform.enabled = False
    autograd_loss, baseline = contrastive_loss(transform, head, *arguments)
    for key in ('pos_mean', 'pos_var', 'neg_mean', 'neg_var'):
        assert_close(stats[f'raw_{key}'], baseline[key], rtol=1e-9, atol=1e-9)
        assert baseline[f'raw_{key}'] == baseline[key]
    assert (loss == autograd_loss) == (not any(side is not None for side in sides))
    assert all(not value.requires_grad and value.dim() == 0 for value in stats.values())


@pytest.mark.parametrize('options', [{}, dict(loss_weight=2.0)], ids=['standard head', 'other head'])
@pytest.mark.parametrize('post_norm', [None, 'pos', 'neg', 'both'])
@pytest.mark.parametrize('granularity', GRANULARITIES)
@pytest.mark.parametrize('sides', SIDES)
def test_raw_statistics_are_those_of_the_untouched_vectors(sides, granularity, post_norm, options):
    """Of every transform that a config can ask for."""
    q, k, queue = vectors()
    transform = FeatureTransform(
        *(side if side is None else dict(granularity=granularity) for side in sides), post_norm
    )
    pos, neg = (q * k).sum(1), q @ queue
    expected = dict(pos_mean=pos.mean(), pos_var=pos.var(correction=0), neg_mean=neg.mean(), neg_var=neg.var(1).mean())
    _, stats = contrastive_loss(transform, head_of(0.07, **options), q, k, queue)
    for key, value in expected.items():
        assert_close(stats[f'raw_{key}'], value, rtol=1e-9, atol=1e-12, msg=lambda m, key=key: f'{key}: {m}')


@pytest.mark.parametrize('raw_given', [False, True])
@pytest.mark.parametrize('settings', [{}, dict(neg=dict(granularity='element')), dict(post_norm='neg')])
def test_a_model_of_ones_own_gets_raw_statistics_too(settings, raw_given):
    """By the call that the documentation shows, and by the one that names queries and keys once more."""
    q, k, queue = vectors()
    contrastive_features = FeatureTransform(**settings).contrastive_features(q, k, queue)
    _, stats = queue_cross_entropy(contrastive_features, 0.07, (q, k) if raw_given else None)
    assert_close(stats['raw_neg_var'], (q @ queue).var(1).mean(), rtol=1e-9, atol=0)
    assert_close(stats['raw_pos_mean'], (q * k).sum(1).mean(), rtol=1e-9, atol=0)


@pytest.mark.parametrize('options', [dict(loss_weight=2.0), dict(reduction='sum'), {}])
def test_loss_is_that_of_the_head_with_or_without_statistics(options):
    arguments, transform, head = vectors(), FeatureTransform(), head_of(**options)
    results = []
    for with_stats in (True, False):
        torch.manual_seed(3)
        loss, stats = contrastive_loss(transform, head, *arguments, with_stats)
        results.append(loss)
        assert bool(stats) is with_stats
    torch.manual_seed(3)
    assert results[0] == results[1]
    assert_close(results[0], head.loss(*transform.scores(*arguments)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('options', [{}, dict(loss_weight=2.0)], ids=['standard head', 'other head'])
def test_the_queue_may_be_overwritten_before_the_backward_pass(options):
    gradients = []
    for overwrite in (False, True):
        q, k, queue = vectors()
        q.requires_grad_()
        torch.manual_seed(0)
        loss, _ = contrastive_loss(FeatureTransform(), head_of(**options), q, k, queue)
        if overwrite:
            queue.normal_()
        loss.backward()
        gradients.append(q.grad)
    assert torch.equal(*gradients)


def test_extreme_scores_stay_finite():
    """Pairs pushed far apart at a low temperature."""
    q, _, queue = vectors(dtype=torch.float32)
    q.requires_grad_()
    transform = FeatureTransform(dict(shift=2.0))
    loss, stats = contrastive_loss(transform, head_of(0.02), q, -q.detach(), queue)
    loss.backward()
    assert loss.isfinite()
    assert q.grad.isfinite().all()
    assert 0 <= stats['p_pos'] < 1e-6


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_low_precision_features_are_contrasted_in_single_precision(dtype):
    q, k, queue = vectors(dtype=torch.float32)
    q = normalize(k + 1e-3 * q, dim=1).to(dtype).requires_grad_()
    with torch.autocast('cpu', torch.bfloat16):
        pos, neg = FeatureTransform().scores(q, k.to(dtype), queue)
        loss, stats = contrastive_loss(FeatureTransform(), head_of(0.07), q, k.to(dtype), queue)
        loss.backward()
    assert pos.dtype == neg.dtype == loss.dtype == torch.float32
    assert q.grad.dtype == dtype
    assert all(value.isfinite() and value.dtype == torch.float32 for value in stats.values())
    assert (pos / 0.07).exp().isfinite().all()


@pytest.mark.parametrize('granularity', GRANULARITIES)
def test_scores_loss_and_gradient_keep_their_precision_under_autocast(granularity):
    """Without the block that the models put around them; bfloat16 would err by 1e-2."""
    q, k, queue = vectors(dtype=torch.float32)
    transform = FeatureTransform(dict(granularity=granularity), dict(granularity=granularity), 'both')
    draws, q = transform.sample(5, 24, 8), q.requires_grad_()
    results = []
    for dtype, enabled in ((torch.float64, False), (torch.float32, True)):
        given = (q.to(dtype), k.to(dtype), queue.to(dtype))
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            contrastive_features = transform.contrastive_features(*given, draws)
            loss, stats = queue_cross_entropy(contrastive_features, 0.07)
            scores = contrastive_features.scores()
        assert loss.dtype == scores[1].dtype == dtype
        results.append([part.double() for part in (loss, *torch.autograd.grad(loss, q), *scores, *stats.values())])
    for expected, value in zip(*results, strict=True):
        assert_close(value, expected, rtol=1e-4, atol=1e-5)


def test_a_permutation_alone_changes_no_loss():
    q, k, queue = vectors()
    baseline, _ = queue_cross_entropy(ContrastiveFeatures(q, k, queue), 0.2)
    permuted, _ = queue_cross_entropy(ContrastiveFeatures(q, k, queue, torch.tensor(0.0), torch.randperm(24)), 0.2)
    assert_close(permuted, baseline, rtol=0, atol=1e-12)
    unmoved, _ = queue_cross_entropy(ContrastiveFeatures(q, k, queue, torch.tensor(0.4), torch.arange(24)), 0.2)
    assert_close(unmoved, baseline, rtol=0, atol=1e-12)


def test_post_norm_gives_unit_lengths_and_the_closed_score():
    q, k, queue = vectors()
    s, lam = (q * k).sum(1), torch.tensor(1.7, dtype=torch.float64)
    transform = FeatureTransform(post_norm='both')
    draws = transform.sample(5, 24, 8)._replace(lam=lam)
    q_hat, k_hat, queue_hat = transform(q, k, queue, draws)
    for vector in (q_hat, k_hat, queue_hat.T):
        assert_close(vector.norm(dim=1), torch.ones(len(vector), dtype=q.dtype), rtol=0, atol=1e-12)
    stretch = 2 * lam * (lam - 1) * (1 - s)
    assert_close((q_hat * k_hat).sum(1), (s - stretch) / (1 + stretch), rtol=0, atol=1e-12)
    only_pos = FeatureTransform(post_norm='pos')(q, k, queue, draws)[2]
    assert (only_pos.norm(dim=0) < 1).any()
