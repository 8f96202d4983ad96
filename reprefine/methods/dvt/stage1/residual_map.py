"""``Delta`` in closed form: a linear map from the raw feature to what ``F`` and ``G`` leave over."""

from collections.abc import Callable

import torch
from torch import Tensor


def fit_residual_map(raw: Tensor, rest: Tensor) -> Callable[[Tensor], Tensor]:
    """Fit ``Delta(y) = (y - mean) A + b`` by ridge regression.

    The strength of the ridge minimises the generalised cross-validation over 25 values spread between the largest and
    1e-8 of the largest squared singular value.

    Args:
        raw: Raw features ``[N, C]``.
        rest: What they should predict, ``y - F - G``, ``[N, C]``.

    Returns:
        A function of raw features ``[..., C]``.
    """
    mean, offset = raw.mean(0), rest.mean(0)
    centred, target = (raw - mean).double(), (rest - offset).double()
    energy, axes = torch.linalg.eigh(centred.T @ centred)
    energy = energy.clamp(min=0)
    along = axes.T @ (centred.T @ target)  # V^T Y^T R: one row an axis
    power = along.square().sum(1)
    total, count = target.square().sum(), len(raw)

    def score(ridge: Tensor) -> Tensor:
        shrink = energy / (energy + ridge)
        # |R - Y A|^2 from the axes alone; energy 0 explains nothing.
        explained = torch.where(energy > 0, power / energy.clamp(min=1e-300), 0.0)
        error = total - (explained * shrink * (2 - shrink)).sum()
        return error / (1 - (1 + shrink.sum()) / count) ** 2

    ridges = energy.max() * torch.logspace(-8, 0, 25, dtype=torch.float64)
    best = min(ridges, key=score).clamp(min=1e-300)
    matrix = (axes @ (along / (energy + best)[:, None])).float()
    return lambda features: ((features.float().to(mean.device) - mean) @ matrix + offset).to(features.device)
