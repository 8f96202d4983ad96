"""The simple feature pyramid of ViTDet: all levels from the single feature map of a plain vision transformer."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule, build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from reprefine.registry import MODELS

NORM = dict(type='reprefine.LN2d', eps=1e-6)


@MODELS.register_module('LN2d')
class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of feature maps (B, C, h, w), separately at each position."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised feature map."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def sincos_positions(channels: int, rows: int, columns: int, base: float = 10000.0) -> Tensor:
    """Return the fixed sine-cosine embedding of the positions of a grid, shape (channels, rows, columns).

    The first half of the channels encodes the column, the second half the row; in each half the sines come first.

    Args:
        channels: Number of channels, a multiple of 4.
        rows: Rows of the grid.
        columns: Columns of the grid.
        base: Base of the geometric sequence of frequencies, which starts at 1.
    """
    frequencies = base ** -(torch.arange(channels // 4, dtype=torch.float64) / (channels // 4))
    halves = []
    for line in (torch.arange(columns).expand(rows, -1), torch.arange(rows)[:, None].expand(-1, columns)):
        angles = frequencies[:, None, None] * line
        halves += [angles.sin(), angles.cos()]
    return torch.cat(halves).float()


@MODELS.register_module()
class SimpleFPN(BaseModule):
    """Pyramid of feature maps at 4, 2, 1 and 1/2 times the resolution of a backbone's last one, and coarser levels.

    Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection", ECCV 2022. With patches of P pixels
    the strides are P/4, P/2, P, 2P and 4P.

    Args:
        in_channels: Channels C of the feature map, a multiple of 4.
        out_channels: Channels of the levels.
        num_outs: Number of levels, at least 4; each level after the fourth is the previous one with stride 2.
        norm_cfg: Config of the normalisation layers.
        position_grid: Grid size of a fixed sine-cosine position embedding that is resampled to the feature map and
            added to it; None for none. DVT's authors add one of 37 to denoised features, which lack position
            information.
        init_cfg: Initialisation config of mmengine.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        num_outs: int = 5,
        norm_cfg: dict[str, Any] = NORM,
        position_grid: int | None = None,
        init_cfg: dict[str, Any] | None = None,
    ):
        super().__init__(init_cfg)
        self.num_outs = num_outs
        half, quarter = in_channels // 2, in_channels // 4
        self.scales = nn.ModuleList(
            [
                nn.Sequential(
                    nn.ConvTranspose2d(in_channels, half, 2, 2),
                    build_norm_layer(norm_cfg, half)[1],
                    nn.GELU(),
                    nn.ConvTranspose2d(half, quarter, 2, 2),
                ),
                nn.ConvTranspose2d(in_channels, half, 2, 2),
                nn.Identity(),
                nn.MaxPool2d(2, 2),
            ]
        )
        conv = dict(norm_cfg=norm_cfg, act_cfg=None)
        self.levels = nn.ModuleList(
            nn.Sequential(
                ConvModule(channels, out_channels, 1, **conv),
                ConvModule(out_channels, out_channels, 3, padding=1, **conv),
            )
            for channels in (quarter, half, in_channels, in_channels)
        )
        table = None if position_grid is None else sincos_positions(in_channels, position_grid, position_grid)[None]
        self.register_buffer('positions', table, persistent=False)

    def forward(self, inputs: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the levels, the finest first, each of ``out_channels``.

        Args:
            inputs: A feature map (B, C, h, w), or several of which the last is used.
        """
        x = inputs if isinstance(inputs, Tensor) else inputs[-1]
        if self.positions is not None:
            x = x + F.interpolate(self.positions, x.shape[2:], mode='bicubic', align_corners=False).to(x)
        outputs = [level(scale(x)) for scale, level in zip(self.scales, self.levels, strict=True)]
        while len(outputs) < self.num_outs:
            outputs.append(F.max_pool2d(outputs[-1], 1, stride=2))
        return tuple(outputs)
