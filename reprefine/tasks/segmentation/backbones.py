"""Backbone for stored feature maps."""

from mmengine.model import BaseModule
from torch import Tensor

from reprefine.registry import MODELS


@MODELS.register_module()
class StoredFeatures(BaseModule):
    """Identity backbone for stored feature maps."""

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Return the feature maps (B, C, h, w) as a tuple of one level."""
        return (x,)
