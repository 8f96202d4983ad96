"""Attention pooling of frozen patch features, as a neck of mmpretrain's classifiers."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from timm.layers import AttentionPoolLatent
from torch import Tensor

from reprefine.registry import MODELS


@MODELS.register_module()
class AttentivePool(BaseModule):
    """Attention pooling: one learned query attends to all positions of the last feature map.

    Queries, keys and values are projected; there is no output projection, because a linear classifier follows.

    Args:
        in_channels: Channels C of the feature map.
        num_heads: Number of attention heads.
    """

    def __init__(self, in_channels: int, num_heads: int = 12):
        super().__init__()
        self.pool = AttentionPoolLatent(in_channels, out_features=0, num_heads=num_heads)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor]:
        """Return the pooled feature (B, C) of the last of the feature maps (B, C, h, w)."""
        return (self.pool(inputs[-1].flatten(2).transpose(1, 2)),)
