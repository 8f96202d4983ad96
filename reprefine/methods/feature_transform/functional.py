"""Formulas of feature transformation as pure functions (ICCV 2021, arXiv 2108.02982; the score identity is derived).

Symbols: ``q`` queries and ``k`` positive keys ``[B, D]``, ``N`` queue of negative keys ``[D, K]`` (in columns, as in
mmpretrain), ``lam`` and ``mu`` mixing coefficients that broadcast to them, ``perm`` a permutation of the ``K`` keys,
``T`` temperature. No function draws random numbers.
"""

import torch
from torch import Tensor


def positive_extrapolation(q: Tensor, k: Tensor, lam: Tensor | float) -> tuple[Tensor, Tensor]:
    """Extrapolate (``lam >= 1``) or interpolate (``0 <= lam <= 1``) each positive pair.

    ``q_hat = lam q + (1 - lam) k`` and ``k_hat = lam k + (1 - lam) q``, both from the original pair. Their dot product
    is ``q.k - sum_d lam_d (lam_d - 1) (q_d - k_d)^2``, so extrapolation never increases the score. Both outputs have a
    gradient for ``q``.

    Args:
        q: Queries ``[B, D]``.
        k: Their positive keys ``[B, D]``.
        lam: Coefficient, broadcastable to ``[B, D]``.

    Returns:
        Transformed queries and keys, ``[B, D]`` each.
    """
    return lam * q + (1 - lam) * k, lam * k + (1 - lam) * q


def negative_interpolation(queue: Tensor, mu: Tensor | float, perm: Tensor, dim: int = 1) -> Tensor:
    """Mix every negative with another one: ``N_hat = mu N + (1 - mu) N[perm]``.

    Scores are linear in the negatives. If all entries of a negative share one ``mu``, mixing the scores ``q.N`` in the
    same way gives the scores ``q.N_hat``, with ``K`` numbers per query instead of ``K x D``.

    Args:
        queue: Negative keys ``[D, K]`` (``dim=1``) or ``[K, D]`` (``dim=0``), or their scores ``[B, K]`` or ``[K, B]``.
        mu: Coefficient in [0, 1], broadcastable to ``queue``.
        perm: Permutation of the keys ``[K]``; fixed points are allowed.
        dim: Axis of the keys.

    Returns:
        Mixed negatives or scores, shaped like ``queue``; ``queue`` is not changed.
    """
    weight = (mu.to(queue) if mu.dim() else mu.item()) if isinstance(mu, Tensor) else mu
    return torch.lerp(queue.index_select(dim, perm), queue, weight)


def positive_scores(q: Tensor, k: Tensor) -> Tensor:
    """Return the scores ``q.k`` of positive pairs ``[B, D]``, ``[B, 1]``."""
    return (q * k).sum(dim=1, keepdim=True)


def mean_and_variance(scores: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return mean and unbiased variance along ``dim``, on a CPU several times as fast as ``torch.var_mean``."""
    mean = scores.mean(dim, keepdim=True)
    variance = (scores - mean).square_().sum(dim) / (scores.shape[dim] - 1)
    return mean.squeeze(dim), variance


def score_stats(pos: Tensor, neg: Tensor, dim: int = 1) -> dict[str, Tensor]:
    """Return mean and variance of scores (dot products, not divided by the temperature).

    Args:
        pos: Scores of the positives ``[B, 1]``.
        neg: Scores of the negatives ``[B, K]`` (``dim=1``) or ``[K, B]`` (``dim=0``).
        dim: Axis of the negatives.

    Returns:
        Scalars: ``pos_mean``, ``pos_var`` (population variance over the batch), ``neg_mean`` and ``neg_var`` (mean over
        the batch of each query's unbiased variance).
    """
    neg_mean, neg_var = mean_and_variance(neg, dim)
    pos_var, pos_mean = torch.var_mean(pos, correction=0)
    return dict(pos_mean=pos_mean, pos_var=pos_var, neg_mean=neg_mean.mean(), neg_var=neg_var.mean())


def softmax_stats(pos: Tensor, neg_max: Tensor, neg_lse: Tensor, keys: int, temperature: float) -> dict[str, Tensor]:
    """Return statistics of the softmax over scores.

    Args:
        pos: Scores of the positives, any shape of ``B`` elements.
        neg_max: Highest negative score of each query, same shape.
        neg_lse: ``log(sum(exp(score / T)))`` over the negatives of each query, same shape.
        keys: Number of negatives ``K``.
        temperature: ``T``.

    Returns:
        Scalars: ``exp_pos`` and ``exp_neg`` (means of ``exp(score / T)``), ``p_pos`` (mean softmax probability of the
        positive, whose gradient has the weight ``1 - p_pos``) and ``contrast_top1`` (percent of queries whose positive
        has the highest score).
    """
    logit = pos / temperature
    return dict(
        exp_pos=logit.exp().mean(),
        exp_neg=neg_lse.exp().mean() / keys,
        p_pos=torch.sigmoid(logit - neg_lse).mean(),
        contrast_top1=100 * (pos > neg_max).to(pos).mean(),
    )
