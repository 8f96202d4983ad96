"""Scores of a trained MoCo under feature transformation with fixed weights, measured and by their closed form."""

from collections.abc import Mapping
from typing import Any

import torch
from moco_training import Variant, build_moco, view_batches
from torch import Tensor

from reprefine.methods.feature_transform import FeatureTransform, score_stats
from reprefine.methods.feature_transform.queues import l2_normalize

MEASURED = ('pos_mean', 'neg_mean', 'neg_var')


@torch.no_grad()
def training_features(weights: Mapping[str, Tensor], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries and positive keys ``[B, D]`` of a training batch, and the queue ``[D, K]``."""
    model = build_moco(Variant('MoCo'), weights)
    (batch,) = zip(range(1), view_batches(1, seed), strict=False)
    views = model.data_preprocessor(batch[1], True)['inputs']
    q = l2_normalize(model.neck(model.backbone(views[0]))[0])
    return q, l2_normalize(model.encoder_k(views[1])[0]), model.queue


def within(q: Tensor, k: Tensor, queue: Tensor) -> dict[str, float]:
    """Return the moments that decide the scores after the transform.

    Args:
        q: Queries ``[B, D]``.
        k: Positive keys ``[B, D]``.
        queue: Negative keys ``[D, K]``.

    Returns:
        Means over the batch: ``s`` of the positives' scores, ``mean_q`` and ``mean_k`` of the negatives' scores with
        queries and keys, ``var_q``, ``var_k`` and ``cov`` of their variances over the queue and their covariance.
    """
    of_q, of_k = q @ queue, k @ queue
    a, b = (scores - scores.mean(1, keepdim=True) for scores in (of_q, of_k))
    products = dict(var_q=a * a, var_k=b * b, cov=a * b)
    moments = {name: (product.sum(1) / (queue.shape[1] - 1)).mean() for name, product in products.items()}
    moments |= dict(s=(q * k).sum(1).mean(), mean_q=of_q.mean(), mean_k=of_k.mean())
    return {name: float(value) for name, value in moments.items()}


def expected_scores(moments: Mapping[str, float], pos: float | None, neg: float | None) -> dict[str, float]:
    """Return the expectation of the scores over the coefficients and the permutation.

    With ``lam = 1 + x`` and ``x`` from Beta(a, a), ``E[lam (lam - 1)] = 3/4 + 1 / (4 (2a + 1))``, so a positive with
    score ``s`` is expected at ``s - 2 E[lam (lam - 1)] (1 - s)``, and the mean of the negatives at
    ``1.5 mean(q.N) - 0.5 mean(k.N)``. With ``mu`` from Beta(a, a), interpolation keeps the mean of the negatives and
    multiplies their variance by ``E[mu^2 + (1 - mu)^2] = (a + 1) / (2a + 1)``.

    Args:
        moments: See :func:`within`; queries and keys are L2-normalised.
        pos: ``alpha`` of the positives; None: not transformed.
        neg: ``alpha`` of the negatives; None: not transformed.
    """
    c, var, extra = 0.0, 0.0, 0.0  # E[lam (lam - 1)], Var[lam], E[lam] - 1
    if pos is not None:
        var, extra = 1 / (4 * (2 * pos + 1)), 0.5
        c = 0.75 + var
    of_q, of_k = (1 + extra) ** 2 + var, extra**2 + var  # E[lam^2], E[(1 - lam)^2]
    variance = of_q * moments['var_q'] + of_k * moments['var_k'] - 2 * c * moments['cov']
    return dict(
        pos_mean=moments['s'] - 2 * c * (1 - moments['s']),
        neg_mean=(1 + extra) * moments['mean_q'] - extra * moments['mean_k'],
        neg_var=variance * (1 if neg is None else (neg + 1) / (2 * neg + 1)),
    )


def measured_scores(
    q: Tensor, k: Tensor, queue: Tensor, transform: FeatureTransform, draws: int, seed: int
) -> dict[str, float]:
    """Return the scores after the transform, means over draws.

    Args:
        q: Queries ``[B, D]``.
        k: Positive keys ``[B, D]``.
        queue: Negative keys ``[D, K]``.
        transform: The transform, with one coefficient per step and side.
        draws: Number of draws.
        seed: Seed of the draws.

    Returns:
        ``pos_mean``, ``neg_mean`` and ``neg_var``, and ``deviation``: the largest difference of the means, over all
        draws, to the formula with the coefficient of the draw instead of its expectation.
    """
    generator, moments = torch.Generator().manual_seed(seed), within(q, k, queue)
    sums, deviation = dict.fromkeys(MEASURED, 0.0), 0.0
    for _ in range(draws):
        drawn = transform.sample(len(q), queue.shape[1], q.shape[1], generator=generator)
        stats = score_stats(*transform.scores(q, k, queue, drawn))
        lam = 1.0 if drawn.lam is None else float(drawn.lam)
        formula = dict(
            pos_mean=moments['s'] - 2 * lam * (lam - 1) * (1 - moments['s']),
            neg_mean=lam * moments['mean_q'] + (1 - lam) * moments['mean_k'],
        )
        deviation = max(deviation, *(abs(float(stats[name]) - value) for name, value in formula.items()))
        sums = {name: value + float(stats[name]) for name, value in sums.items()}
    return {name: value / draws for name, value in sums.items()} | dict(deviation=deviation)


def fixed_weights(
    weights: Mapping[str, Tensor], seed: int, settings: Mapping[str, tuple[float | None, float | None]], draws: int
) -> dict[str, Any]:
    """Return the scores of one batch under several transforms.

    Args:
        weights: State dict of a trained MoCo.
        seed: Seed of the batch and of the draws.
        settings: ``alpha`` of positives and negatives by name; None for a side that is not transformed.
        draws: Number of draws.

    Returns:
        For each setting the measured scores, and the expected ones with the prefix ``expected_``.
    """
    q, k, queue = training_features(weights, seed)
    moments, values = within(q, k, queue), {}
    for name, (pos, neg) in settings.items():
        sides = {side: alpha if alpha is None else dict(alpha=alpha) for side, alpha in (('pos', pos), ('neg', neg))}
        measured = measured_scores(q, k, queue, FeatureTransform(**sides), draws, seed)
        expected = expected_scores(moments, pos, neg)
        values[name] = measured | {f'expected_{key}': value for key, value in expected.items()}
    return values
