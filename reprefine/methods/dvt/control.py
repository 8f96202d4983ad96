"""A network with a position pattern that is known, to see what denoising makes of it."""

from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS


@MODELS.register_module()
class PatternedBackbone(BaseModule):
    """Adds a fixed random pattern of the token grid to the features of a backbone: an artifact that is known.

    Args:
        backbone: Config of the backbone, which gives one map (B, C, h, w).
        channels: Channels C.
        grid: Side of the maps.
        scale: Standard deviation of the pattern.
        seed: Seed of the pattern.
    """

    def __init__(self, backbone: dict[str, Any], channels: int, grid: int, scale: float = 1.0, seed: int = 0):
        super().__init__()
        self.backbone = MODELS.build(backbone)
        pattern = torch.randn(channels, grid, grid, generator=torch.Generator().manual_seed(seed))
        self.register_buffer('pattern', scale * pattern, persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Return the map of ``x`` with the pattern added.

        Raises:
            UserError: If the map has another grid.
        """
        features = self.backbone(x)[-1]
        if features.shape[1:] != self.pattern.shape:
            raise UserError(
                f'PatternedBackbone: the map is {tuple(features.shape[1:])}, the pattern {tuple(self.pattern.shape)}'
            )
        return (features + self.pattern,)
