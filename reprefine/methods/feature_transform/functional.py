"""Formulas of feature transformation as pure functions (ICCV 2021, arXiv 2108.02982; the score identity is ours).

Symbols: ``q`` query and ``k`` positive key ``[B, D]``, ``N`` queue of negative keys ``[D, K]`` (one key a column, as in
mmpretrain), ``lam`` and ``mu`` mixing coefficients that broadcast to them, ``perm`` a permutation of the ``K`` keys,
``T`` temperature. Nothing here draws random numbers.
"""

import torch
from torch import Tensor


def positive_extrapolation(q: Tensor, k: Tensor, lam: Tensor | float) -> tuple[Tensor, Tensor]:
    """Push a positive pair apart (``lam >= 1``) or together (``0 <= lam <= 1``) along the line through it.

    ``q_hat = lam q + (1 - lam) k`` and ``k_hat = lam k + (1 - lam) q``, both from the original pair. Their product is
    ``q.k - sum_d lam_d (lam_d - 1) (q_d - k_d)^2``, so extrapolation never makes a positive easier. The gradient for
    ``q`` flows through both.

    Args:
        q: Queries ``[B, D]``.
        k: Their positive keys ``[B, D]``.
        lam: Coefficient, broadcastable to ``[B, D]``.

    Returns:
        Transformed queries and keys, ``[B, D]`` each.
    """
    return lam * q + (1 - lam) * k, lam * k + (1 - lam) * q


def negative_interpolation(queue: Tensor, mu: Tensor | float, perm: Tensor, dim: int = 1) -> Tensor:
    """Mix every negative with another one of the queue: ``N_hat = mu N + (1 - mu) N[perm]``.

    Args:
        queue: Negative keys, ``[D, K]`` (``dim=1``) or ``[K, D]`` (``dim=0``).
        mu: Coefficient in [0, 1], broadcastable to the queue.
        perm: Permutation of the keys ``[K]``; fixed points are allowed.
        dim: Axis of the keys.

    Returns:
        Mixed negatives, shaped like the queue, which stays as it was.
    """
    return mu * queue + (1 - mu) * queue.index_select(dim, perm)


def positive_scores(q: Tensor, k: Tensor) -> Tensor:
    """Return ``q.k`` of each pair, ``[B, 1]``."""
    return (q * k).sum(dim=1, keepdim=True)


def score_stats(pos: Tensor, neg: Tensor) -> dict[str, Tensor]:
    """Return mean and spread of raw scores, that is before the temperature.

    Args:
        pos: Scores of the positives ``[B, 1]``.
        neg: Scores of the negatives ``[B, K]``.

    Returns:
        Scalars: ``pos_mean``, ``pos_var`` (population variance over the batch), ``neg_mean`` and ``neg_var`` (mean over
        the batch of each query's unbiased variance).
    """
    neg_var, neg_mean = torch.var_mean(neg, dim=1)
    pos_var, pos_mean = torch.var_mean(pos, correction=0)
    return dict(pos_mean=pos_mean, pos_var=pos_var, neg_mean=neg_mean.mean(), neg_var=neg_var.mean())


def softmax_stats(pos: Tensor, neg: Tensor, temperature: float) -> dict[str, Tensor]:
    """Return what the loss makes of the scores.

    Args:
        pos: Scores of the positives ``[B, 1]``.
        neg: Scores of the negatives ``[B, K]``.
        temperature: ``T``.

    Returns:
        Scalars: ``exp_pos`` and ``exp_neg`` (means of ``exp(score / T)``), ``p_pos`` (mean softmax probability of the
        positive; ``1 - p_pos`` weighs its gradient) and ``contrast_top1`` (percent of queries whose positive scores
        highest).
    """
    exp_pos, sum_neg = (pos / temperature).exp(), (neg / temperature).exp_().sum(dim=1, keepdim=True)
    hits = pos > neg.amax(dim=1, keepdim=True)
    return dict(
        exp_pos=exp_pos.mean(),
        exp_neg=sum_neg.mean() / neg.shape[1],
        p_pos=(exp_pos / (exp_pos + sum_neg)).mean(),
        contrast_top1=100 * hits.to(pos).mean(),
    )
