"""Statistics of feature maps and gating, as the attention blocks use them."""

import torch
from torch import Tensor

# Added to the cube of the standard deviation, as in the code of MCA.
SKEWNESS_EPS = 1e-5
# Keeps the gradient of the square root finite for zero variance.
VARIANCE_EPS = 1e-12


def scale_channels(x: Tensor, logits: Tensor) -> Tensor:
    """Multiply each channel of ``x`` ``[N, C, H, W]`` by the sigmoid of its logit ``[N, C]``."""
    return x * logits.sigmoid()[..., None, None]


def scale_axes(x: Tensor, row_logits: Tensor, column_logits: Tensor) -> Tensor:
    """Multiply ``[N, C, H, W]`` by the sigmoids of the logits of its rows ``[N, C, H]`` and columns ``[N, C, W]``."""
    return x * row_logits.sigmoid()[..., None] * column_logits.sigmoid()[..., None, :]


def axis_means(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the means of ``x`` ``[N, C, H, W]`` over its columns ``[N, C, H]`` and over its rows ``[N, C, W]``."""
    return x.mean(3), x.mean(2)


def max_and_mean(x: Tensor) -> Tensor:
    """Return maximum and mean of ``x`` ``[N, C, H, W]`` over the channels, in this order, ``[N, 2, H, W]``."""
    return torch.stack((x.amax(1), x.mean(1)), 1)


def mean_and_deviation(x: Tensor) -> Tensor:
    """Return mean and population standard deviation of ``x`` ``[N, C, H, W]`` over positions, ``[N, 2, C]`` (MCA-E)."""
    variance, mean = torch.var_mean(x, (2, 3), correction=0)
    return torch.stack((mean, (variance + VARIANCE_EPS).sqrt()), 1)


def mean_and_skewness(x: Tensor) -> Tensor:
    """Return mean and skewness ``E[(x - mean)^3] / (std^3 + 1e-5)`` over positions (MCA-S).

    As in the code of MCA; the figure of its paper shows the third moment without the denominator.

    Args:
        x: Feature maps ``[N, C, H, W]``.

    Returns:
        Shape ``[N, 2, C]``.
    """
    mean, deviation = mean_and_deviation(x).unbind(1)
    third = (x - mean[..., None, None]).pow(3).mean((2, 3))
    return torch.stack((mean, third / (deviation.pow(3) + SKEWNESS_EPS)), 1)


def can_downsample(height: int, width: int) -> bool:
    """Return whether GE halves a feature map once more; it does not if the shorter side would become 1."""
    return min(height, width) // 2 > 1
