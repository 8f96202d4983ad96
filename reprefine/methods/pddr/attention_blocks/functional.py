"""The statistics that the comparison blocks gate a feature map with, and the gates."""

import torch
from torch import Tensor

# Added to the cube of the deviation, as in MCA's code.
SKEWNESS_EPS = 1e-5
# The root of a zero variance has no finite gradient.
VARIANCE_EPS = 1e-12


def scale_channels(x: Tensor, logits: Tensor) -> Tensor:
    """Multiply each channel of x (N, C, H, W) by the sigmoid of its logit (N, C)."""
    return x * logits.sigmoid()[..., None, None]


def scale_axes(x: Tensor, row_logits: Tensor, column_logits: Tensor) -> Tensor:
    """Multiply x (N, C, H, W) by the sigmoids of its rows' (N, C, H) and columns' logits (N, C, W), as ELA does."""
    return x * row_logits.sigmoid()[..., None] * column_logits.sigmoid()[..., None, :]


def axis_means(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the means of x (N, C, H, W) over its columns (N, C, H) and over its rows (N, C, W)."""
    return x.mean(3), x.mean(2)


def peak_and_mean(x: Tensor) -> Tensor:
    """Return maximum and mean of x (N, C, H, W) over its channels, in this order, as (N, 2, H, W): input of CBAM."""
    return torch.stack((x.amax(1), x.mean(1)), 1)


def mean_and_deviation(x: Tensor) -> Tensor:
    """Return mean and population standard deviation over the positions of x (N, C, H, W) as (N, 2, C): MCA-E."""
    variance, mean = torch.var_mean(x, (2, 3), correction=0)
    return torch.stack((mean, (variance + VARIANCE_EPS).sqrt()), 1)


def mean_and_skewness(x: Tensor) -> Tensor:
    """Return mean and skewness E[(x - mean)^3] / (std^3 + 1e-5) of the channels of x (N, C, H, W): MCA-S.

    The figure of the paper shows the third moment without the denominator, its code has it.

    Returns:
        Shape (N, 2, C).
    """
    mean, deviation = mean_and_deviation(x).unbind(1)
    third = (x - mean[..., None, None]).pow(3).mean((2, 3))
    return torch.stack((mean, third / (deviation.pow(3) + SKEWNESS_EPS)), 1)


def is_gathered_further(height: int, width: int) -> bool:
    """Tell whether GE halves a map once more: not if its shorter side would shrink to a single position."""
    return min(height, width) // 2 > 1
