"""Vision transformers for portrait images, with linear patch embedding or the convolutional stem of TransReID-SSL."""

import math
from collections import OrderedDict
from typing import Any

import torch
from mmpretrain.models.backbones import VisionTransformer
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

STEM_STRIDE = 2


def portrait_grid(patches: int) -> tuple[int, int]:
    """Return height and width of a patch grid that is one, two or three times as high as wide.

    The number of patches determines the ratio: 196 is 14 x 14, 128 is 16 x 8 and 192 is 24 x 8.

    Args:
        patches: Number of patches.

    Raises:
        UserError: If the number is that of no such grid.
    """
    for ratio in (1, 2, 3):
        width = math.isqrt(patches // ratio)
        if ratio * width**2 == patches:
            return ratio * width, width
    raise UserError(f'position embedding of {patches} patches: their grid is not 1, 2 or 3 times as high as wide')


@MODELS.register_module()
class PortraitViT(VisionTransformer):
    """mmpretrain's ViT that loads position embeddings of other portrait grids; mmpretrain itself assumes square ones.

    Args:
        *args: Arguments of mmpretrain's ``VisionTransformer``; ``img_size`` is (height, width).
        **kwargs: The same.
    """

    def _prepare_pos_embed(self, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
        found = state_dict.get(f'{prefix}pos_embed')
        if found is None or found.shape[1] == self.pos_embed.shape[1]:
            return
        grid = portrait_grid(found.shape[1] - self.num_extra_tokens)
        state_dict[f'{prefix}pos_embed'] = resize_pos_embed(
            found, grid, self.patch_resolution, self.interpolate_mode, self.num_extra_tokens
        )


@MODELS.register_module()
class ConvStemViT(PortraitViT):
    """ViT whose patches are embedded by the IBN-based convolutional stem (ICS) of TransReID-SSL (arXiv 2111.12084).

    Three convolutions, the first with stride 2, precede a projection of half the patch size, so that the patch grid is
    that of the ViT. The architecture is that of VOLO's stem with other norms; it has not been compared with the
    published weights. ``tools/model_converters/import_transreid_ssl.py`` takes the sizes from a checkpoint and raises
    an error for any other architecture.

    Args:
        *args: Arguments of mmpretrain's ``VisionTransformer``; ``img_size`` is (height, width).
        stem_channels: Channels of the stem.
        stem_kernel: Kernel size of the first convolution; the others have 3.
        **kwargs: The same as ``args``.
    """

    def __init__(self, *args: Any, stem_channels: int = 64, stem_kernel: int = 7, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        projection = self.patch_embed.projection
        half = [size // STEM_STRIDE for size in projection.kernel_size]
        stride = [size // STEM_STRIDE for size in projection.stride]
        self.patch_embed.projection = nn.Sequential(
            OrderedDict(
                conv=conv_stem(projection.in_channels, stem_channels, stem_kernel),
                proj=nn.Conv2d(stem_channels, projection.out_channels, half, stride, bias=projection.bias is not None),
            )
        )
        if self.frozen_stages > 0:
            self._freeze_stages()


def conv_stem(in_channels: int, channels: int, kernel_size: int) -> nn.Sequential:
    """Return three convolutions that halve the resolution, two normalised by :class:`IBN` and the last by batch norm.

    Args:
        in_channels: Channels of the image.
        channels: Channels of every convolution.
        kernel_size: Odd kernel size of the first convolution.
    """

    def conv(inputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
        return nn.Conv2d(inputs, channels, kernel, stride, padding=kernel // 2, bias=False)

    return nn.Sequential(
        *(conv(in_channels, kernel_size, STEM_STRIDE), IBN(channels), nn.ReLU(inplace=True)),
        *(conv(channels, 3), IBN(channels), nn.ReLU(inplace=True)),
        *(conv(channels, 3), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)),
    )


class IBN(nn.Module):
    """Instance norm on the first half of the channels and batch norm on the second, IBN-a of arXiv 1807.09441.

    Args:
        channels: Channels of the input.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.IN = nn.InstanceNorm2d(channels // 2, affine=True)
        self.BN = nn.BatchNorm2d(channels - channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` of shape (N, C, H, W)."""
        instance, batch = x.split([self.IN.num_features, self.BN.num_features], dim=1)
        return torch.cat([self.IN(instance), self.BN(batch)], dim=1)
