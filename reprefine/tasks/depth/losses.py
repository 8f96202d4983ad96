"""Losses of depth estimation as modules."""

import torch
from torch import Tensor, nn

from reprefine.registry import MODELS

from .functional import gradient_loss, sig_loss


@MODELS.register_module()
class SigLoss(nn.Module):
    """Scale-invariant log loss over the valid pixels of the batch.

    Args:
        loss_weight: Factor of the loss.
        warmup: Number of first calls without the variance term. The number of calls is in the state dict, so that
            resuming continues it.
        loss_name: Key of the loss in the log.
    """

    def __init__(self, loss_weight: float = 1.0, warmup: int = 100, loss_name: str = 'loss_sig'):
        super().__init__()
        self.loss_weight = loss_weight
        self.warmup = warmup
        self.loss_name = loss_name
        self.register_buffer('calls', torch.tensor(0))

    def forward(self, depth: Tensor, target: Tensor) -> Tensor:
        """Return the loss of predicted against true depth in metres, both (B, 1, H, W)."""
        variance_weight = (self.calls >= self.warmup).to(depth)  # stays on the device
        self.calls += 1
        return self.loss_weight * sig_loss(depth, target, variance_weight)


@MODELS.register_module()
class GradientLoss(nn.Module):
    """Gradient of the log error over each image, at four scales.

    Args:
        loss_weight: Factor of the loss.
        loss_name: Key of the loss in the log.
    """

    def __init__(self, loss_weight: float = 0.5, loss_name: str = 'loss_gradient'):
        super().__init__()
        self.loss_weight = loss_weight
        self.loss_name = loss_name

    def forward(self, depth: Tensor, target: Tensor) -> Tensor:
        """Return the loss of predicted against true depth in metres, both (B, 1, H, W)."""
        return self.loss_weight * gradient_loss(depth, target)
