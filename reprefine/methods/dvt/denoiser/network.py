"""The denoiser: one transformer block with its own position embeddings."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprefine.engine.errors import UserError

HEAD_DIM = 64
ARCHS = ('block', 'conv1x1', 'conv3x3')


def resize_positions(table: Tensor, stored: Sequence[int], grid: Sequence[int]) -> Tensor:
    """Resample position embeddings to another grid: bicubic, antialiased, in float32.

    Args:
        table: Position embeddings (1, rows * columns, C), row by row.
        stored: Rows and columns of the table.
        grid: Rows and columns h, w of the result.

    Returns:
        Position embeddings (1, h * w, C); ``table`` itself if the grids are equal.
    """
    if tuple(stored) == tuple(grid):
        return table
    image = table.float().transpose(1, 2).unflatten(2, tuple(stored))
    image = F.interpolate(image, size=tuple(grid), mode='bicubic', antialias=True, align_corners=False)
    return image.flatten(2).transpose(1, 2).to(table.dtype)


class FeatureDenoiser(nn.Module):
    """Maps raw patch features to denoised ones (Sec. 4.3 of the paper).

    Learned position embeddings are added to the tokens, pre-norm transformer blocks follow; there is neither a final
    norm nor a skip connection around the blocks. ``conv1x1`` and ``conv3x3`` are an ablation of the paper: three
    convolutions without position embeddings.

    Args:
        in_channels: Channels C of the features, a multiple of 64 (of 2 for the convolutions).
        grid: Side, or rows and columns, of the grid of the position embeddings.
        num_blocks: Number of transformer blocks.
        arch: One of ``block``, ``conv1x1`` and ``conv3x3``.
        pos_embed: Add position embeddings.
        num_heads: Attention heads; C / 64 if None.

    Raises:
        UserError: If the architecture is unknown or the channels are not a multiple of the heads.
    """

    def __init__(
        self,
        in_channels: int,
        grid: int | Sequence[int] = 37,
        num_blocks: int = 1,
        arch: str = 'block',
        pos_embed: bool = True,
        num_heads: int | None = None,
    ):
        super().__init__()
        if arch not in ARCHS:
            raise UserError(f'denoiser: arch {arch!r} is unknown; use {", ".join(ARCHS)}')
        self.grid = (grid, grid) if isinstance(grid, int) else tuple(grid)
        self.arch, self.in_channels = arch, in_channels
        self.pos_embed = None
        if arch == 'block':
            self.blocks = _blocks(in_channels, num_blocks, num_heads)
            if pos_embed:
                table = torch.empty(1, self.grid[0] * self.grid[1], in_channels)
                self.pos_embed = nn.Parameter(nn.init.normal_(table, std=0.02))
        else:
            self.convs = _convolutions(in_channels, 1 if arch == 'conv1x1' else 3)

    def forward(self, features: Tensor) -> Tensor:
        """Denoise feature maps of any size.

        Args:
            features: Raw features, shape (B, C, h, w).

        Returns:
            Denoised features of the same shape and type.

        Raises:
            UserError: If the number of channels is not ``in_channels``.
        """
        if features.shape[1] != self.in_channels:
            raise UserError(
                f'denoiser: features have {features.shape[1]} channels, in_channels is {self.in_channels}; '
                'set in_channels to those of the backbone'
            )
        dtype, grid = features.dtype, features.shape[-2:]
        features = features.to(next(self.parameters()).dtype)
        if self.arch != 'block':
            return self.convs(features).to(dtype)
        tokens = features.flatten(2).transpose(1, 2)
        if self.pos_embed is not None:
            tokens = tokens + resize_positions(self.pos_embed, self.grid, grid)
        return self.blocks(tokens).transpose(1, 2).unflatten(2, grid).to(dtype)


def _blocks(channels: int, number: int, heads: int | None) -> nn.Sequential:
    from timm.models.vision_transformer import Block

    heads = heads or channels // HEAD_DIM
    if not heads or channels % heads:
        raise UserError(f'denoiser: {channels} channels are not a multiple of {heads} heads; set num_heads')
    block: Any = partial(Block, channels, heads, qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=1e-6))
    return nn.Sequential(*(block() for _ in range(number)))


def _convolutions(channels: int, kernel: int) -> nn.Sequential:
    conv = partial(nn.Conv2d, kernel_size=kernel, padding=kernel // 2)
    half = channels // 2
    return nn.Sequential(conv(channels, half), nn.ReLU(), conv(half, half), nn.ReLU(), conv(half, channels))
