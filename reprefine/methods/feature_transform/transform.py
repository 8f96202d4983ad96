"""The component that a contrastive model with a queue calls between its encoders and its loss."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

from .draws import Coefficient, Draws
from .functional import negative_interpolation, positive_extrapolation
from .loss import Candidates

POST_NORMS = (None, 'pos', 'neg', 'both')
POS = dict(dist='beta', alpha=2.0, shift=1.0, granularity='batch')
NEG = dict(dist='beta', alpha=1.6, shift=0.0, granularity='batch')


@MODELS.register_module()
class FeatureTransform(nn.Module):
    """Extrapolates positive pairs and interpolates the queue's negatives. It has no parameters and no buffers.

    A new object is enabled; :class:`~.hooks.FTScheduleHook` sets ``enabled`` by the epoch.

    Args:
        pos: Law of the positives' coefficient ``lam``, arguments of :class:`~.draws.Coefficient` over the defaults
            ``dist='beta', alpha=2.0, shift=1.0, granularity='batch'``; None leaves positives alone.
        neg: Law of the negatives' coefficient ``mu``, over the defaults ``dist='beta', alpha=1.6, shift=0.0,
            granularity='batch'``; None leaves negatives alone.
        post_norm: Which transformed vectors are scaled back to unit length: ``'pos'``, ``'neg'``, ``'both'`` or None,
            as in the published runs.

    Raises:
        UserError: If an argument has no meaning.
    """

    def __init__(
        self,
        pos: Mapping[str, Any] | None = POS,
        neg: Mapping[str, Any] | None = NEG,
        post_norm: str | None = None,
    ) -> None:
        super().__init__()
        if post_norm not in POST_NORMS:
            raise UserError(f"post_norm='{post_norm}' is unknown: choose 'pos', 'neg', 'both' or None")
        self.pos, self.neg = _coefficient('pos', pos, POS), _coefficient('neg', neg, NEG)
        self.post_norm = post_norm
        self.enabled = True

    @property
    def config(self) -> dict[str, Any]:
        """The arguments, complete, as plain values."""
        sides = {name: vars(side).copy() if side else None for name, side in (('pos', self.pos), ('neg', self.neg))}
        return {**sides, 'post_norm': self.post_norm}

    @property
    def active(self) -> bool:
        """Whether anything is transformed."""
        return self.enabled and (self.pos is not None or self.neg is not None)

    def sample(
        self,
        batch: int,
        keys: int,
        dims: int,
        device: torch.device | str = 'cpu',
        generator: torch.Generator | None = None,
    ) -> Draws:
        """Draw the randomness of one step; none when inactive.

        Args:
            batch: Number of positive pairs ``B``.
            keys: Number of negatives ``K``.
            dims: Length of the vectors ``D``.
            device: Device of the vectors.
            generator: Source of randomness; on a GPU not for ``granularity='batch'``, whose scalars come from the CPU.
        """
        if not self.active:
            return Draws()
        lam = self.pos and self.pos.sample(batch, dims, device, generator)
        if self.neg is None:
            return Draws(lam)
        mu = self.neg.sample(keys, dims, device, generator)
        return Draws(lam, mu.T if mu.dim() else mu, torch.randperm(keys, device=device, generator=generator))

    def forward(self, q: Tensor, k: Tensor, queue: Tensor, draws: Draws | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Transform the vectors. An inactive transform returns its arguments and draws nothing.

        Args:
            q: Queries ``[B, D]`` of unit length.
            k: Their positive keys ``[B, D]``, without gradient.
            queue: Negative keys ``[D, K]``, one a column; pass ``queue.T`` if yours has one a row.
            draws: Randomness of this step, default fresh.

        Returns:
            Transformed queries, keys and negatives; negatives are to be scored with the transformed queries.
        """
        draws = self._drawn(q, k, queue, draws)
        q, k = self._positives(q, k, draws)
        return q, k, self._negatives(queue, draws)

    def candidates(self, q: Tensor, k: Tensor, queue: Tensor, draws: Draws | None = None) -> Candidates:
        """Transform the vectors as far as needed, in float32: negatives whose scores can be mixed are left alone.

        Arguments as for :meth:`forward`.
        """
        draws = self._drawn(q, k, queue, draws)
        q, k, queue = raw = tuple(at_least_single(tensor) for tensor in (q, k, queue))
        if not self.active:
            return Candidates(q, k, queue)
        q, k = self._positives(q, k, draws)
        one_for_all_entries = draws.mu is not None and (draws.mu.dim() == 0 or draws.mu.shape[0] == 1)
        if one_for_all_entries and self.post_norm not in ('neg', 'both'):
            return Candidates(q, k, queue, draws.mu, draws.perm, raw)
        return Candidates(q, k, self._negatives(queue, draws), raw=raw)

    def scores(self, q: Tensor, k: Tensor, queue: Tensor, draws: Draws | None = None) -> tuple[Tensor, Tensor]:
        """Return the scores of the transformed vectors in float32, without mixing the queue where that is not needed.

        Arguments as for :meth:`forward`. Give a copy of the queue if it is overwritten before the backward pass.

        Returns:
            Scores of the positives ``[B, 1]`` and of the negatives ``[B, K]``.
        """
        return self.candidates(q, k, queue, draws).scores()

    def _drawn(self, q: Tensor, k: Tensor, queue: Tensor, draws: Draws | None) -> Draws:
        if q.dim() != 2 or q.shape != k.shape or queue.dim() != 2 or queue.shape[0] != q.shape[1]:
            raise UserError(
                f'feature transformation wants q and k [B, D] and a queue [D, K], not {tuple(q.shape)}, '
                f'{tuple(k.shape)} and {tuple(queue.shape)}'
            )
        if not self.active:
            return Draws()
        return draws or self.sample(*q.shape[:1], queue.shape[1], q.shape[1], q.device)

    def _positives(self, q: Tensor, k: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        if draws.lam is None:
            return q, k
        q, k = positive_extrapolation(q, k, draws.lam)
        if self.post_norm in ('pos', 'both'):
            q, k = F.normalize(q, dim=1), F.normalize(k, dim=1)
        return q, k

    def _negatives(self, queue: Tensor, draws: Draws) -> Tensor:
        if draws.mu is None:
            return queue
        queue = negative_interpolation(queue, draws.mu, draws.perm)
        return F.normalize(queue, dim=0) if self.post_norm in ('neg', 'both') else queue


def _coefficient(side: str, given: Mapping[str, Any] | None, default: Mapping[str, Any]) -> Coefficient | None:
    if given is None:
        return None
    if unknown := given.keys() - default.keys():
        raise UserError(f"{side} has no argument '{min(unknown)}': choose from {', '.join(default)}")
    return Coefficient(**{**default, **given})


def at_least_single(tensor: Tensor) -> Tensor:
    """Return the tensor in float32 if its precision is lower."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
