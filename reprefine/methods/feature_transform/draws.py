"""Random draws of mixing coefficients and permutation, which the formulas take as arguments."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from reprefine.engine.draw import draw
from reprefine.engine.errors import UserError

DISTRIBUTIONS = ('beta', 'uniform')
GRANULARITIES = ('batch', 'sample', 'dim', 'element')


class TransformDraws(NamedTuple):
    """Random draws of one training step; None for a side that is not transformed.

    Attributes:
        lam: Coefficient of the positives, broadcastable to ``[B, D]``.
        mu: Coefficient of the negatives, broadcastable to ``[D, K]``.
        perm: Permutation of the negatives ``[K]``.
    """

    lam: Tensor | None = None
    mu: Tensor | None = None
    perm: Tensor | None = None


class Coefficient:
    """Distribution and shape of a mixing coefficient: ``shift + x`` with ``x`` from Beta(alpha, alpha) or U(0, 1).

    Args:
        dist: ``'beta'`` or ``'uniform'``.
        alpha: Parameter of the symmetric Beta distribution, positive.
        shift: Added to the draw: 1 extrapolates, 0 interpolates.
        granularity: Entries that share a draw: ``'batch'`` all, ``'sample'`` those of a vector, ``'dim'`` those of a
            dimension, ``'element'`` none.

    Raises:
        UserError: If an argument is invalid.
    """

    def __init__(self, dist: str = 'beta', alpha: float = 2.0, shift: float = 0.0, granularity: str = 'batch') -> None:
        if dist not in DISTRIBUTIONS:
            raise UserError(f"dist='{dist}' is unknown: use one of {', '.join(DISTRIBUTIONS)}")
        if not (alpha > 0 and math.isfinite(alpha)):
            raise UserError(f'alpha={alpha} is not a parameter of a Beta distribution: use a positive, finite number')
        if granularity not in GRANULARITIES:
            raise UserError(f"granularity='{granularity}' is unknown: use one of {', '.join(GRANULARITIES)}")
        self.dist, self.alpha, self.shift, self.granularity = dist, alpha, shift, granularity

    def sample(
        self, vectors: int, dims: int, device: torch.device | str, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw coefficients in float32.

        Args:
            vectors: Number of vectors.
            dims: Dimension ``D`` of the vectors.
            device: Device of arrays. A scalar is always drawn on the CPU, which avoids a GPU synchronisation.
            generator: Generator on that device (for a scalar: on the CPU); None: the default generator.

        Returns:
            Shape ``[]``, ``[vectors, 1]``, ``[1, dims]`` or ``[vectors, dims]``, by granularity.
        """
        shape = dict(batch=(), sample=(vectors, 1), dim=(1, dims), element=(vectors, dims))[self.granularity]
        device = 'cpu' if self.granularity == 'batch' else device
        if self.dist == 'uniform':
            return draw(torch.rand, shape, generator, device=device).add_(self.shift)
        return symmetric_beta(self.alpha, shape, device, generator).add_(self.shift)


def symmetric_beta(
    alpha: float,
    shape: tuple[int, ...],
    device: torch.device | str = 'cpu',
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw from Beta(alpha, alpha), exactly.

    For ``alpha > 1/2`` by the polar method, ``1/2 + cos(2 pi u) sqrt(1 - v^(2 / (2 alpha - 1))) / 2`` with uniform
    ``u`` and ``v`` (Devroye, Non-Uniform Random Variate Generation, IX.4.1), several times as fast as two gamma draws
    per entry; otherwise by gamma draws.

    Args:
        alpha: Parameter, positive.
        shape: Shape of the result.
        device: Device of the result.
        generator: Generator on that device; None: the default generator.

    Returns:
        Draws in [0, 1], float32.
    """
    if alpha <= 0.5:
        return torch._sample_dirichlet(torch.full((*shape, 2), float(alpha), device=device), generator)[..., 0].clone()
    radius = draw(torch.rand, shape, generator, device=device)
    radius = radius.pow_(2 / (2 * alpha - 1)).neg_().add_(1).sqrt_()
    angle = draw(torch.rand, shape, generator, device=device).mul_(2 * math.pi)
    return angle.cos_().mul_(radius).mul_(0.5).add_(0.5)
