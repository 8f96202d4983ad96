"""Synthetic features of the views of an image, with known content ``F`` and position pattern ``G``."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from reprefine.methods.dvt.functional import DRAWS, crop_views, view_coords, whole_view


@dataclass(frozen=True)
class SyntheticViews:
    """Features ``y = F + G`` of the views of one image; no image is rendered.

    Attributes:
        features: ``[V, K, K, C]``; the last view is the whole image.
        coords: Coordinates that a solver gets, ``[V, K, K, 2]``.
        semantics: True ``F`` at the tokens of the whole image, ``[K, K, C]``.
        artifact: True ``G``, ``[K, K, C]``.
    """

    features: Tensor
    coords: Tensor
    semantics: Tensor
    artifact: Tensor


def random_plane_waves(channels: int, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    """Return a function of coordinates ``[..., 2]``: per channel the sum of six plane waves, with variance 1.

    Angular frequencies are N(0, 4^2) radians per image width along each axis.
    """
    frequency = 4 * torch.randn(6, 2, channels, generator=generator)
    phase = 2 * math.pi * torch.rand(6, channels, generator=generator)

    def function(coords: Tensor) -> Tensor:
        waves = torch.einsum('...a,kac->...kc', coords, frequency) + phase
        return math.sqrt(2 / 6) * waves.cos().sum(-2)

    return function


def synthetic_views(
    generator: torch.Generator,
    channels: int = 32,
    grid: int = 16,
    num_views: int = 64,
    mode: str = 'center',
    outliers: float = 0.0,
    noise: float = 0.0,
) -> SyntheticViews:
    """Draw features of random crops and of the whole image.

    Args:
        generator: Source of all random numbers.
        channels: Number of channels C.
        grid: Tokens K along each axis.
        num_views: Number of random crops, besides the whole image.
        mode: ``coord_mode`` of the coordinates that a solver gets; the features are those at the true token centres.
        outliers: Fraction of tokens to which 4 times one fixed Gaussian vector is added.
        noise: Standard deviation of additive Gaussian noise.
    """
    size, patch = (grid * 16, grid * 16), 16
    draws = torch.rand(num_views, DRAWS, generator=generator, dtype=torch.float64)
    views = torch.cat([crop_views(draws, size), whole_view(size)])
    centers = view_coords(views, size, patch, patch, 'center')
    function = random_plane_waves(channels, generator)
    artifact = torch.randn(grid, grid, channels, generator=generator)
    features = torch.stack([function(view) + artifact for view in centers])  # one view at a time, to save memory
    is_outlier = torch.rand(features.shape[:3], generator=generator) < outliers
    features[is_outlier] += 4 * torch.randn(channels, generator=generator)
    if noise:
        features += noise * torch.randn(features.shape, generator=generator)
    coords = view_coords(views, size, patch, patch, mode)
    return SyntheticViews(features, coords, function(centers[-1]), artifact)
