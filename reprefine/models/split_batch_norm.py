"""Batch normalisation over parts of a batch, like that of several devices without synchronisation."""

from typing import Any

import torch
from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS


@MODELS.register_module('SplitBN')
class SplitBatchNorm2d(nn.BatchNorm2d):
    """Normalises each of several equal parts of a training batch by its own mean and variance.

    In MoCo, whose keys are computed in shuffled order, batch statistics then do not reveal which samples were in one
    batch, as shuffling BN achieves on several devices. Evaluation and the state dict are those of ``BatchNorm2d``.

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
            UserError: If a training batch cannot be divided into equal parts.
        """
        if not self.training:
            return super().forward(x)
        if len(x) % self.num_splits:
            raise UserError(
                f'SplitBN: a batch of {len(x)} does not divide into {self.num_splits} parts; change the batch size '
                'or num_splits'
            )
        return torch.cat([super(SplitBatchNorm2d, self).forward(part) for part in x.chunk(self.num_splits)])
