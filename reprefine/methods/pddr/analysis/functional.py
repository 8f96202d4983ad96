"""Formulas of the analyses."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

BINS = 20


def grad_cam_maps(activations: Tensor, gradients: Tensor) -> Tensor:
    """Return the Grad-CAM maps ``relu(sum_k alpha_k A_k)`` with ``alpha_k`` the mean of the gradient of channel k.

    Args:
        activations: Feature maps ``A``, (N, K, h, w).
        gradients: Gradient of each sample's logit by its feature maps, (N, K, h, w).

    Returns:
        Not yet scaled, (N, h, w).
    """
    weights = gradients.mean((2, 3), keepdim=True)
    return (weights * activations).sum(1).relu()


def to_unit_range(maps: Tensor) -> Tensor:
    """Stretch each map of (N, H, W), or image of (N, 3, H, W), to the range from 0 to 1; a constant one becomes 0."""
    axes = tuple(range(1, maps.ndim))
    low, high = maps.amin(axes, keepdim=True), maps.amax(axes, keepdim=True)
    spread = high - low
    return (maps - low) / torch.where(spread > 0, spread, torch.ones_like(spread))


def to_signed_range(maps: Tensor) -> Tensor:
    """Scale each map of (N, H, W) to the range from -1 to 1, zero staying zero."""
    largest = maps.abs().amax((1, 2), keepdim=True)
    return maps / torch.where(largest > 0, largest, torch.ones_like(largest))


def guided_relu_gradient(inputs: Tensor, gradients: Tensor) -> Tensor:
    """Return the gradient of a ReLU's input in guided back-propagation: positive ones pass, where the input is.

    Args:
        inputs: Input or output of the ReLU, any shape.
        gradients: Gradient of its output, of the same shape.
    """
    return deconvnet_relu_gradient(inputs, gradients) * (inputs > 0)


def deconvnet_relu_gradient(inputs: Tensor, gradients: Tensor) -> Tensor:
    """Return the gradient of a ReLU's input in a deconvnet: positive ones pass, whatever the input."""
    return gradients.clamp_min(0)


def guided_grad_cam_maps(gradients: Tensor, maps: Tensor) -> Tensor:
    """Return guided Grad-CAM: gradients of guided back-propagation (N, 3, H, W) times Grad-CAM maps (N, H, W)."""
    return gradients * maps[:, None]


def common_histograms(values: Mapping[str, Tensor], bins: int = BINS) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Count the values of several groups in bins over the range of all of them.

    Args:
        values: Values of each group, any shape.
        bins: Number of bins.

    Returns:
        Edges of the bins (bins + 1,), and for each group the share of its values in each bin (bins,).
    """
    arrays = {name: group.detach().double().flatten().cpu().numpy() for name, group in values.items()}
    edges = np.histogram_bin_edges(np.concatenate(list(arrays.values())), bins)
    return edges, {name: np.histogram(array, edges)[0] / array.size for name, array in arrays.items()}


def density_of_fit(values: Tensor, at: np.ndarray) -> np.ndarray:
    """Return the normal density with mean and standard deviation of the values, at the points ``at`` (P,)."""
    mean, deviation = values.double().mean().item(), values.double().std(correction=0).item()
    return np.exp(-0.5 * ((at - mean) / deviation) ** 2) / (deviation * np.sqrt(2 * np.pi))
