"""FeatureTransform, which a contrastive model with a queue applies between its encoders and its loss."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

from .draws import Coefficient, TransformDraws
from .functional import negative_interpolation, positive_extrapolation
from .loss import ContrastiveFeatures

POST_NORMS = (None, 'pos', 'neg', 'both')
POS = dict(dist='beta', alpha=2.0, shift=1.0, granularity='batch')
NEG = dict(dist='beta', alpha=1.6, shift=0.0, granularity='batch')


@MODELS.register_module()
class FeatureTransform(nn.Module):
    """Extrapolates positive pairs and interpolates the negatives of the queue. It has no parameters and no buffers.

    It is initially enabled; :class:`~.schedule_hook.FTScheduleHook` sets ``enabled`` by the epoch.

    Args:
        pos: Distribution of the coefficient ``lam`` of the positives, arguments of :class:`~.draws.Coefficient` with
            the defaults ``dist='beta', alpha=2.0, shift=1.0, granularity='batch'``; None: positives are unchanged.
        neg: Distribution of the coefficient ``mu`` of the negatives, with the defaults ``dist='beta', alpha=1.6,
            shift=0.0, granularity='batch'``; None: negatives are unchanged.
        post_norm: Transformed vectors that are L2-normalised: ``'pos'``, ``'neg'``, ``'both'``, or None as in the
            published runs.

    Raises:
        UserError: If an argument is invalid.
    """

    def __init__(
        self,
        pos: Mapping[str, Any] | None = POS,
        neg: Mapping[str, Any] | None = NEG,
        post_norm: str | None = None,
    ) -> None:
        super().__init__()
        if post_norm not in POST_NORMS:
            raise UserError(f"post_norm='{post_norm}' is unknown: use 'pos', 'neg', 'both' or None")
        self.pos, self.neg = _build_coefficient('pos', pos, POS), _build_coefficient('neg', neg, NEG)
        self.post_norm = post_norm
        self.enabled = True

    @property
    def config(self) -> dict[str, Any]:
        """All arguments, with defaults, as built-in types."""
        sides = {name: vars(side).copy() if side else None for name, side in (('pos', self.pos), ('neg', self.neg))}
        return {**sides, 'post_norm': self.post_norm}

    @property
    def active(self) -> bool:
        """Whether positives or negatives are transformed."""
        return self.enabled and (self.pos is not None or self.neg is not None)

    def sample(
        self,
        batch: int,
        keys: int,
        dims: int,
        device: torch.device | str = 'cpu',
        generator: torch.Generator | None = None,
    ) -> TransformDraws:
        """Return the random draws of one step; an inactive transform draws nothing.

        Args:
            batch: Number of positive pairs ``B``.
            keys: Number of negatives ``K``.
            dims: Dimension of the vectors ``D``.
            device: Device of the vectors.
            generator: Generator on the device; not supported on a GPU for ``granularity='batch'``, whose scalars are
                drawn on the CPU.
        """
        if not self.active:
            return TransformDraws()
        lam = self.pos and self.pos.sample(batch, dims, device, generator)
        if self.neg is None:
            return TransformDraws(lam)
        mu = self.neg.sample(keys, dims, device, generator)
        return TransformDraws(lam, mu.T if mu.dim() else mu, torch.randperm(keys, device=device, generator=generator))

    def forward(
        self, q: Tensor, k: Tensor, queue: Tensor, draws: TransformDraws | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Transform the vectors. An inactive transform returns its arguments and draws nothing.

        Args:
            q: L2-normalised queries ``[B, D]``.
            k: Their positive keys ``[B, D]``, without gradient.
            queue: Negative keys ``[D, K]``, in columns; use ``queue.T`` for keys in rows.
            draws: Random draws of this step; None: new ones.

        Returns:
            Transformed queries ``[B, D]``, keys ``[B, D]`` and negatives ``[D, K]``. Negatives are scored with the
            transformed queries.
        """
        draws = self._check_and_sample(q, k, queue, draws)
        q, k = self._positives(q, k, draws)
        return q, k, self._negatives(queue, draws)

    def contrastive_features(
        self, q: Tensor, k: Tensor, queue: Tensor, draws: TransformDraws | None = None
    ) -> ContrastiveFeatures:
        """Transform the vectors in float32, except negatives whose scores can be mixed instead.

        Arguments as for :meth:`forward`.
        """
        draws = self._check_and_sample(q, k, queue, draws)
        q, k, queue = raw = tuple(upcast_half(tensor) for tensor in (q, k, queue))
        if not self.active:
            return ContrastiveFeatures(q, k, queue)
        q, k = self._positives(q, k, draws)
        can_mix_scores = draws.mu is not None and (draws.mu.dim() == 0 or draws.mu.shape[0] == 1)
        if can_mix_scores and self.post_norm not in ('neg', 'both'):
            return ContrastiveFeatures(q, k, queue, draws.mu, draws.perm, raw)
        return ContrastiveFeatures(q, k, self._negatives(queue, draws), raw=raw)

    def scores(self, q: Tensor, k: Tensor, queue: Tensor, draws: TransformDraws | None = None) -> tuple[Tensor, Tensor]:
        """Return the scores of the transformed vectors in float32, if possible by mixing scores instead of the queue.

        Arguments as for :meth:`forward`. Use a copy of the queue if it is overwritten before the backward pass.

        Returns:
            Scores of the positives ``[B, 1]`` and of the negatives ``[B, K]``.
        """
        return self.contrastive_features(q, k, queue, draws).scores()

    def _check_and_sample(self, q: Tensor, k: Tensor, queue: Tensor, draws: TransformDraws | None) -> TransformDraws:
        if q.dim() != 2 or q.shape != k.shape or queue.dim() != 2 or queue.shape[0] != q.shape[1]:
            raise UserError(
                f'q, k and queue of feature transformation have the shapes {tuple(q.shape)}, {tuple(k.shape)} and '
                f'{tuple(queue.shape)}: they need [B, D], [B, D] and [D, K]'
            )
        if not self.active:
            return TransformDraws()
        return draws or self.sample(q.shape[0], queue.shape[1], q.shape[1], q.device)

    def _positives(self, q: Tensor, k: Tensor, draws: TransformDraws) -> tuple[Tensor, Tensor]:
        if draws.lam is None:
            return q, k
        q, k = positive_extrapolation(q, k, draws.lam)
        if self.post_norm in ('pos', 'both'):
            q, k = F.normalize(q, dim=1), F.normalize(k, dim=1)
        return q, k

    def _negatives(self, queue: Tensor, draws: TransformDraws) -> Tensor:
        if draws.mu is None:
            return queue
        queue = negative_interpolation(queue, draws.mu, draws.perm)
        return F.normalize(queue, dim=0) if self.post_norm in ('neg', 'both') else queue


def _build_coefficient(side: str, options: Mapping[str, Any] | None, default: Mapping[str, Any]) -> Coefficient | None:
    if options is None:
        return None
    if unknown := options.keys() - default.keys():
        raise UserError(f"{side} has no argument '{min(unknown)}': use {', '.join(default)}")
    return Coefficient(**{**default, **options})


def upcast_half(tensor: Tensor) -> Tensor:
    """Return float16 and bfloat16 tensors in float32, others unchanged."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
