"""Batch normalisation over parts of a batch, as several devices would do it."""

from typing import Any

import torch
from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS


@MODELS.register_module('SplitBN')
class SplitBatchNorm2d(nn.BatchNorm2d):
    """Normalises each of several equal parts of a training batch by its own mean and variance.

    A contrastive learner whose keys pass in another order than its queries then cannot tell by these statistics which
    samples came in one batch; on several devices shuffling over them has that effect. Evaluation and the state dict are
    those of ``BatchNorm2d``.

    Args:
        num_features: Channels ``C``.
        num_splits: Number of parts.
        **kwargs: Arguments of :class:`torch.nn.BatchNorm2d`.
    """

    def __init__(self, num_features: int, num_splits: int = 4, **kwargs: Any) -> None:
        super().__init__(num_features, **kwargs)
        self.num_splits = num_splits

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``[B, C, H, W]``.

        Raises:
            UserError: A training batch does not divide into equal parts.
        """
        if not self.training:
            return super().forward(x)
        if len(x) % self.num_splits:
            raise UserError(f'SplitBN: a batch of {len(x)} does not divide into {self.num_splits} parts')
        return torch.cat([super(SplitBatchNorm2d, self).forward(part) for part in x.chunk(self.num_splits)])
