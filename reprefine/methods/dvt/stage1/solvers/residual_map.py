"""``Delta`` in closed form: a linear map from the raw features to what ``F`` and ``G`` do not explain."""

from collections.abc import Callable

import torch
from torch import Tensor


def fit_residual_map(raw: Tensor, residual: Tensor) -> Callable[[Tensor], Tensor]:
    """Fit ``Delta(y) = (y - mean) A + b`` by ridge regression.

    The ridge parameter minimises the generalised cross-validation score over 25 values, log-spaced between 1e-8 and 1
    times the largest squared singular value.

    Args:
        raw: Raw features ``[N, C]``.
        residual: Targets ``y - F - G``, ``[N, C]``.

    Returns:
        A function of raw features ``[..., C]``.
    """
    mean, offset = raw.mean(0), residual.mean(0)
    centered, target = (raw - mean).double(), (residual - offset).double()
    energy, axes = torch.linalg.eigh(centered.T @ centered)
    energy = energy.clamp(min=0)
    projected = axes.T @ (centered.T @ target)  # V^T Y^T R: one row per axis
    power = projected.square().sum(1)
    total, count = target.square().sum(), len(raw)

    def score(ridge: Tensor) -> Tensor:
        shrinkage = energy / (energy + ridge)
        # |R - Y A|^2 from the axes alone; axes of zero energy explain nothing.
        explained = torch.where(energy > 0, power / energy.clamp(min=1e-300), 0.0)
        error = total - (explained * shrinkage * (2 - shrinkage)).sum()
        return error / (1 - (1 + shrinkage.sum()) / count) ** 2

    ridges = energy.max() * torch.logspace(-8, 0, 25, dtype=torch.float64)
    best = min(ridges, key=score).clamp(min=1e-300)
    matrix = (axes @ (projected / (energy + best)[:, None])).float()
    return lambda features: ((features.float().to(mean.device) - mean) @ matrix + offset).to(features.device)
