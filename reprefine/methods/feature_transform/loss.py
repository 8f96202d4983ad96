"""Cross-entropy of queries against a queue whose negatives are mixed on the fly.

Loss, gradient and statistics come from one pass over scores that are laid out with one negative a row: a permutation
then moves whole rows. The gradient is computed with the loss, so that no score and no copy of the queue has to be
kept until the backward pass, and the queue may be overwritten in between.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from .functional import negative_interpolation, positive_scores, score_stats, softmax_stats


class Candidates(NamedTuple):
    """What a query is compared with.

    Attributes:
        q: Queries ``[B, D]``.
        k: Their positive keys ``[B, D]``.
        queue: Negative keys ``[D, K]``.
        mu: Coefficient by which scores of negatives are still to be mixed, scalar or ``[1, K]``; None for no mixing.
        perm: Permutation of the negatives ``[K]`` to mix with, or None.
        raw: Queries, keys and negatives before the transform, shaped alike; None: these are untransformed.
    """

    q: Tensor
    k: Tensor
    queue: Tensor
    mu: Tensor | None = None
    perm: Tensor | None = None
    raw: tuple[Tensor, Tensor, Tensor] | None = None

    def scores(self) -> tuple[Tensor, Tensor]:
        """Return the scores of the positives ``[B, 1]`` and of the negatives ``[B, K]``, differentiable.

        They are computed in the precision of the vectors, also under autocast.
        """
        with torch.autocast(self.q.device.type, enabled=False):
            neg = self.q @ self.queue
            if self.mu is not None:
                neg = negative_interpolation(neg, self.mu, self.perm)
            return positive_scores(self.q, self.k), neg


def queue_cross_entropy(
    candidates: Candidates, temperature: float, raw: tuple[Tensor, Tensor] | None = None, with_stats: bool = True
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the mean cross-entropy of each positive against the queue, in the precision of the candidates.

    Args:
        candidates: Queries and what they are compared with.
        temperature: ``T``; scores are divided by it once.
        raw: Queries and keys before the transform, for their statistics; None: those that the candidates remember.
        with_stats: Whether to compute statistics.

    Returns:
        The scalar loss and the statistics of the scores, empty if not wanted.
    """
    if raw is not None:
        before = (part.to(candidates.q) for part in raw)
        candidates = candidates._replace(raw=(*before, candidates.raw[2] if candidates.raw else candidates.queue))
    with torch.autocast(candidates.q.device.type, enabled=False):
        pos = positive_scores(candidates.q, candidates.k)
        loss, gradients, stats = _loss_and_gradients(candidates, pos.detach(), temperature, with_stats)
    return _WithGradients.apply(candidates.q, pos, loss, *gradients), stats


@torch.no_grad()
def _loss_and_gradients(
    candidates: Candidates, pos: Tensor, temperature: float, with_stats: bool
) -> tuple[Tensor, tuple[Tensor, Tensor], dict[str, Tensor]]:
    """Return the loss, its gradients for queries and positive scores, and the statistics.

    With the softmax weights ``p`` of the negatives the gradient of a query is ``N (mu p + ((1 - mu) p)[perm^-1]) / T``.
    """
    batch, mu, queue = len(pos), _per_row(candidates.mu), candidates.queue
    raw = candidates.raw if with_stats else None
    neg, raw_neg = _negative_scores(candidates.q, queue, raw)
    if mu is not None:
        neg = negative_interpolation(neg, mu, candidates.perm, dim=0)
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
    grad_q = queue @ _unmixed(weights.mul_(scale / total), mu, candidates.perm)
    return loss, (grad_q.T, grad_pos), stats


def _negative_scores(
    q: Tensor, queue: Tensor, raw: tuple[Tensor, Tensor, Tensor] | None
) -> tuple[Tensor, Tensor | None]:
    """Return the scores of the negatives ``[K, B]`` and those before the transform, in one product if it can be."""
    if raw is None:
        return queue.T @ q.T, None
    if raw[2] is queue:
        return (queue.T @ torch.cat([q, raw[0]]).T).split(len(q), dim=1)
    return queue.T @ q.T, raw[2].T @ raw[0].T


def _per_row(mu: Tensor | None) -> Tensor | None:
    return mu.reshape(-1, 1) if mu is not None and mu.dim() else mu


def _unmixed(weights: Tensor, mu: Tensor | None, perm: Tensor | None) -> Tensor:
    """Return the gradient for scores from that of the mixed scores, both ``[K, B]``."""
    if mu is None:
        return weights
    inverse = torch.empty_like(perm).scatter_(0, perm, torch.arange(len(perm), device=perm.device))
    own = weights * mu
    return weights.sub_(own).index_select(0, inverse).add_(own)


class _WithGradients(torch.autograd.Function):
    """Gives a loss the gradients that were computed with it."""

    @staticmethod
    def forward(ctx: FunctionCtx, q: Tensor, pos: Tensor, loss: Tensor, grad_q: Tensor, grad_pos: Tensor) -> Tensor:
        ctx.save_for_backward(grad_q, grad_pos)
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_q, grad_pos = ctx.saved_tensors
        return grad * grad_q, grad * grad_pos, None, None, None
