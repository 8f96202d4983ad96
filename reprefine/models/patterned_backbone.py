"""A backbone with a known position-dependent pattern in its features, as ground truth for denoising."""

from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS


@MODELS.register_module()
class PatternedBackbone(BaseModule):
    """Adds one fixed Gaussian pattern of the token grid to every feature map of a backbone.

    Args:
        backbone: Config of the backbone; its last output is a feature map (B, C, h, w).
        channels: Number of channels C.
        grid: Height and width h = w of the feature map.
        scale: Standard deviation of the pattern.
        seed: Seed of the pattern.
    """

    def __init__(self, backbone: dict[str, Any], channels: int, grid: int, scale: float = 1.0, seed: int = 0):
        super().__init__()
        self.backbone = MODELS.build(backbone)
        pattern = torch.randn(channels, grid, grid, generator=torch.Generator().manual_seed(seed))
        self.register_buffer('pattern', scale * pattern, persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Return the last feature map of ``x`` plus the pattern, (B, C, h, w).

        Raises:
            UserError: If the feature map has another number of channels or another size than the pattern.
        """
        features = self.backbone(x)[-1]
        if features.shape[1:] != self.pattern.shape:
            raise UserError(
                f'PatternedBackbone: the feature map has shape {tuple(features.shape[1:])}, the pattern '
                f'{tuple(self.pattern.shape)}; set channels and grid to those of the feature map'
            )
        return (features + self.pattern,)
