"""Metrics of feature maps: dependence on the token position, and correlation of two maps."""

import torch
from torch import Tensor


def position_correlation(features: Tensor) -> tuple[float, float]:
    """Return the absolute correlation of single channels with the token position, within each image.

    The appendix of the paper uses the maximal information coefficient instead.

    Args:
        features: Shape (N, h, w, C).

    Returns:
        Maximum and mean over the channels, both averaged over the images and the axes x and y. Constant channels count
        as uncorrelated.
    """
    count, rows, columns, _ = features.shape
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing='ij')
    coords = _standardize(torch.stack((x, y), -1).reshape(1, -1, 2).double())
    values = _standardize(features.reshape(count, rows * columns, -1).double())
    correlation = torch.einsum('ntc,ta->nac', values, coords[0]).abs() / (rows * columns)
    return correlation.amax(-1).mean().item(), correlation.mean().item()


def _standardize(values: Tensor) -> Tensor:
    """Scale each channel of each image, (N, T, C), to mean 0 and variance 1 over its tokens."""
    centered = values - values.mean(1, keepdim=True)
    return centered / centered.square().mean(1, keepdim=True).sqrt().clamp(min=1e-12)


def fixed_fraction(features: Tensor) -> float:
    """Return the fraction of the variance over tokens that the mean over all images explains, from 0 to 1.

    The mean holds a position pattern, but also what the scenes have in common, such as the sky at the top.

    Args:
        features: Shape (N, h, w, C).
    """
    centered = features.double() - features.double().mean((1, 2), keepdim=True)
    return (centered.mean(0).square().mean() / centered.square().mean()).item()


def variance_ratio(component: Tensor, raw: Tensor) -> float:
    """Return the variance over the grid of a component of the features, relative to that of the raw features.

    Args:
        component: Shape (N, h, w, C), such as the artifact of each image.
        raw: Raw features of the same shape.
    """
    variances = [(x.double() - x.double().mean((1, 2), keepdim=True)).square().mean() for x in (component, raw)]
    return (variances[0] / variances[1]).item()


def centered_correlation(a: Tensor, b: Tensor) -> float:
    """Return the correlation over all elements, with the mean of each channel over the grid of a map subtracted.

    Args:
        a: Feature maps of shape ``[..., rows, columns, C]``.
        b: Feature maps of the same shape.
    """
    a, b = (x.double() - x.double().mean((-3, -2), keepdim=True) for x in (a, b))
    return ((a * b).sum() / (a.square().sum() * b.square().sum()).sqrt()).item()
