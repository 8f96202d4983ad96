"""How much features depend on where a token lies: measures for the pattern that denoising removes."""

import torch
from torch import Tensor


def position_correlation(features: Tensor) -> tuple[float, float]:
    """Return how well single channels tell the position of a token, in images on their own.

    The paper's appendix measures the maximal information coefficient; this is the absolute correlation.

    Args:
        features: Shape (N, h, w, C).

    Returns:
        Of the absolute correlation of a channel with x and with y, both averaged over images and axes: the largest of
        the channels, and the mean over the channels. Constant channels count as uncorrelated.
    """
    count, rows, columns, _ = features.shape
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing='ij')
    coords = _standardised(torch.stack((x, y), -1).reshape(1, -1, 2).double())
    values = _standardised(features.reshape(count, rows * columns, -1).double())
    correlation = torch.einsum('ntc,ta->nac', values, coords[0]).abs() / (rows * columns)
    return correlation.amax(-1).mean().item(), correlation.mean().item()


def _standardised(values: Tensor) -> Tensor:
    """Scale each channel of each image, (N, T, C), to mean 0 and variance 1 over its tokens."""
    centred = values - values.mean(1, keepdim=True)
    return centred / centred.square().mean(1, keepdim=True).sqrt().clamp(min=1e-12)


def fixed_share(features: Tensor) -> float:
    """Return the share of the variance over tokens that the mean of all images explains, from 0 to 1.

    A pattern of the token grid is in every image alike; so is what scenes have in common, such as a sky above.

    Args:
        features: Shape (N, h, w, C).
    """
    centred = features.double() - features.double().mean((1, 2), keepdim=True)
    return (centred.mean(0).square().mean() / centred.square().mean()).item()


def energy_ratio(part: Tensor, whole: Tensor) -> float:
    """Return the variance of one part of the features over the grid, relative to that of the raw features.

    Args:
        part: Shape (N, h, w, C), such as the shared artifact of each image.
        whole: Raw features of the same shape.
    """
    variances = [(x.double() - x.double().mean((1, 2), keepdim=True)).square().mean() for x in (part, whole)]
    return (variances[0] / variances[1]).item()
