"""Cross-entropy of queries against a queue whose negatives are mixed by their scores.

Loss, gradients and statistics are computed in one pass over scores ``[K, B]``, in which the permutation selects rows.
The gradients are computed with the loss: neither scores nor a copy of the queue are saved for the backward pass, and
the queue may be overwritten before it.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from .functional import negative_interpolation, positive_scores, score_stats, softmax_stats


class ContrastiveFeatures(NamedTuple):
    """Transformed queries and keys, with negatives whose scores may remain to be mixed.

    Attributes:
        q: Queries ``[B, D]``.
        k: Their positive keys ``[B, D]``.
        queue: Negative keys ``[D, K]``.
        mu: Coefficient with which the scores of the negatives are mixed, scalar or ``[1, K]``; None: no mixing.
        perm: Permutation of the negatives ``[K]`` for mixing; None without ``mu``.
        raw: Queries, keys and negatives before the transform, same shapes; None: they are not transformed.
    """

    q: Tensor
    k: Tensor
    queue: Tensor
    mu: Tensor | None = None
    perm: Tensor | None = None
    raw: tuple[Tensor, Tensor, Tensor] | None = None

    def scores(self) -> tuple[Tensor, Tensor]:
        """Return the scores of positives ``[B, 1]`` and negatives ``[B, K]``, in the dtype of the vectors."""
        with torch.autocast(self.q.device.type, enabled=False):
            neg = self.q @ self.queue
            if self.mu is not None:
                neg = negative_interpolation(neg, self.mu, self.perm)
            return positive_scores(self.q, self.k), neg


def queue_cross_entropy(
    features: ContrastiveFeatures,
    temperature: float,
    raw: tuple[Tensor, Tensor] | None = None,
    with_stats: bool = True,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the mean cross-entropy of positives against the queue, in the dtype of the features.

    Args:
        features: Queries, positive keys and negatives.
        temperature: Temperature ``T``, by which scores are divided.
        raw: Queries and keys before the transform, for the ``raw_*`` statistics; None: those of ``features.raw``.
        with_stats: Whether to compute score statistics.

    Returns:
        The scalar loss, and the score statistics, empty without ``with_stats``.
    """
    if raw is not None:
        before = (part.to(features.q) for part in raw)
        features = features._replace(raw=(*before, features.raw[2] if features.raw else features.queue))
    with torch.autocast(features.q.device.type, enabled=False):
        pos = positive_scores(features.q, features.k)
        loss, gradients, stats = _loss_and_gradients(features, pos.detach(), temperature, with_stats)
    return _PrecomputedGradients.apply(features.q, pos, loss, *gradients), stats


@torch.no_grad()
def _loss_and_gradients(
    features: ContrastiveFeatures, pos: Tensor, temperature: float, with_stats: bool
) -> tuple[Tensor, tuple[Tensor, Tensor], dict[str, Tensor]]:
    """Return the loss, its gradients for queries and positive scores, and the statistics.

    With the softmax weights ``p`` of the negatives the gradient of a query is ``N (mu p + ((1 - mu) p)[perm^-1]) / T``.
    """
    batch, mu, queue = len(pos), _as_column(features.mu), features.queue
    raw = features.raw if with_stats else None
    neg, raw_neg = _negative_scores(features.q, queue, raw)
    if mu is not None:
        neg = negative_interpolation(neg, mu, features.perm, dim=0)
    stats = {}
    if with_stats:
        stats = score_stats(pos, neg, dim=0)
        before = stats if raw is None else score_stats(positive_scores(*raw[:2]), raw_neg, dim=0)
        stats |= {f'raw_{key}': value for key, value in before.items()}
    logit, neg = pos.T / temperature, neg.div_(temperature)
    neg_max = neg.amax(dim=0, keepdim=True)
    shift = torch.maximum(neg_max, logit)
    weights = neg.sub_(shift).exp_()
    sums = weights.sum(dim=0, keepdim=True)
    total = sums + (logit - shift).exp()
    loss = (total.log() + shift - logit).mean()
    if with_stats:
        stats |= softmax_stats(pos.T, neg_max * temperature, sums.log() + shift, len(queue.T), temperature)
    scale = 1 / (temperature * batch)
    grad_pos = ((logit - shift).exp() / total - 1).T * scale
    grad_q = queue @ _gradient_before_mixing(weights.mul_(scale / total), mu, features.perm)
    return loss, (grad_q.T, grad_pos), stats


def _negative_scores(
    q: Tensor, queue: Tensor, raw: tuple[Tensor, Tensor, Tensor] | None
) -> tuple[Tensor, Tensor | None]:
    """Return the scores of the negatives ``[K, B]`` and those before the transform, if possible by one matmul."""
    if raw is None:
        return queue.T @ q.T, None
    if raw[2] is queue:
        return (queue.T @ torch.cat([q, raw[0]]).T).split(len(q), dim=1)
    return queue.T @ q.T, raw[2].T @ raw[0].T


def _as_column(mu: Tensor | None) -> Tensor | None:
    return mu.reshape(-1, 1) if mu is not None and mu.dim() else mu


def _gradient_before_mixing(weights: Tensor, mu: Tensor | None, perm: Tensor | None) -> Tensor:
    """Return the gradient for the scores from that for the mixed scores, both ``[K, B]``."""
    if mu is None:
        return weights
    inverse = torch.empty_like(perm).scatter_(0, perm, torch.arange(len(perm), device=perm.device))
    own = weights * mu
    return weights.sub_(own).index_select(0, inverse).add_(own)


class _PrecomputedGradients(torch.autograd.Function):
    """Attaches precomputed gradients to a loss."""

    @staticmethod
    def forward(ctx: FunctionCtx, q: Tensor, pos: Tensor, loss: Tensor, grad_q: Tensor, grad_pos: Tensor) -> Tensor:
        ctx.save_for_backward(grad_q, grad_pos)
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_q, grad_pos = ctx.saved_tensors
        return grad * grad_q, grad * grad_pos, None, None, None
