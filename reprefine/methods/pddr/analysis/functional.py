"""Formulas of the analyses as pure functions."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

BINS = 20


def grad_cam_maps(activations: Tensor, gradients: Tensor) -> Tensor:
    """Return the Grad-CAM maps ``relu(sum_k alpha_k A_k)``, where ``alpha_k`` is the mean gradient of channel k.

    Args:
        activations: Feature maps ``A``, ``[N, K, h, w]``.
        gradients: Gradient of the logit of each sample by its feature maps, ``[N, K, h, w]``.

    Returns:
        Maps ``[N, h, w]``, not normalised.
    """
    weights = gradients.mean((2, 3), keepdim=True)
    return (weights * activations).sum(1).relu()


def to_unit_range(maps: Tensor) -> Tensor:
    """Min-max normalise each map of ``[N, H, W]`` or image of ``[N, 3, H, W]`` to [0, 1]; a constant one becomes 0."""
    axes = tuple(range(1, maps.ndim))
    low, high = maps.amin(axes, keepdim=True), maps.amax(axes, keepdim=True)
    extent = high - low
    return (maps - low) / torch.where(extent > 0, extent, torch.ones_like(extent))


def to_signed_range(maps: Tensor) -> Tensor:
    """Divide each map of ``[N, H, W]`` by its largest absolute value; a zero map stays zero."""
    largest = maps.abs().amax((1, 2), keepdim=True)
    return maps / torch.where(largest > 0, largest, torch.ones_like(largest))


def guided_relu_gradient(inputs: Tensor, gradients: Tensor) -> Tensor:
    """Return the gradient of the input of a ReLU in guided backpropagation: positive gradients at positive inputs.

    Args:
        inputs: Input or output of the ReLU, any shape.
        gradients: Gradient of the output, same shape.
    """
    return deconvnet_relu_gradient(inputs, gradients) * (inputs > 0)


def deconvnet_relu_gradient(inputs: Tensor, gradients: Tensor) -> Tensor:
    """Return the gradient of the input of a ReLU in a deconvnet: positive gradients at any input."""
    return gradients.clamp_min(0)


def guided_grad_cam_maps(gradients: Tensor, maps: Tensor) -> Tensor:
    """Return guided-backpropagation gradients ``[N, 3, H, W]`` times Grad-CAM maps ``[N, H, W]``."""
    return gradients * maps[:, None]


def common_histograms(values: Mapping[str, Tensor], bins: int = BINS) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return histograms of several groups of values with common bins.

    Args:
        values: Values by group, any shape.
        bins: Number of bins, over the range of all values.

    Returns:
        Edges of the bins ``[bins + 1]``, and by group the fraction of its values in each bin ``[bins]``.
    """
    arrays = {name: group.detach().double().flatten().cpu().numpy() for name, group in values.items()}
    edges = np.histogram_bin_edges(np.concatenate(list(arrays.values())), bins)
    return edges, {name: np.histogram(array, edges)[0] / array.size for name, array in arrays.items()}


def density_of_fit(values: Tensor, at: np.ndarray) -> np.ndarray:
    """Return the density of the normal distribution fitted to the values, at the points ``at`` ``[P]``."""
    mean, deviation = values.double().mean().item(), values.double().std(correction=0).item()
    return np.exp(-0.5 * ((at - mean) / deviation) ** 2) / (deviation * np.sqrt(2 * np.pi))
