"""Random draws of the coefficients and the permutation, apart from the formulas that use them."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from reprefine.engine.draw import draw
from reprefine.engine.errors import UserError

DISTRIBUTIONS = ('beta', 'uniform')
GRANULARITIES = ('batch', 'sample', 'dim', 'element')


class Draws(NamedTuple):
    """What one step draws; None for a side that is left alone.

    Attributes:
        lam: Coefficient of the positives, broadcastable to ``[B, D]``.
        mu: Coefficient of the negatives, broadcastable to ``[D, K]``.
        perm: Permutation of the negatives ``[K]``.
    """

    lam: Tensor | None = None
    mu: Tensor | None = None
    perm: Tensor | None = None


class Coefficient:
    """Law and shape of a mixing coefficient: ``shift + x`` with ``x`` from Beta(alpha, alpha) or U(0, 1).

    Args:
        dist: ``'beta'`` or ``'uniform'``.
        alpha: Parameter of the symmetric Beta law, positive.
        shift: What is added; 1 extrapolates, 0 interpolates.
        granularity: Which entries share a draw: ``'batch'`` all of them, ``'sample'`` those of one vector, ``'dim'``
            those of one dimension, ``'element'`` none.

    Raises:
        UserError: If a value is not among these.
    """

    def __init__(self, dist: str = 'beta', alpha: float = 2.0, shift: float = 0.0, granularity: str = 'batch') -> None:
        if dist not in DISTRIBUTIONS:
            raise UserError(f"dist='{dist}' is unknown: choose one of {', '.join(DISTRIBUTIONS)}")
        if not (alpha > 0 and math.isfinite(alpha)):
            raise UserError(f'alpha={alpha} is no parameter of a Beta law: it must be positive and finite')
        if granularity not in GRANULARITIES:
            raise UserError(f"granularity='{granularity}' is unknown: choose one of {', '.join(GRANULARITIES)}")
        self.dist, self.alpha, self.shift, self.granularity = dist, alpha, shift, granularity

    def sample(
        self, vectors: int, dims: int, device: torch.device | str, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw, in float32.

        Args:
            vectors: Number of vectors.
            dims: Their length ``D``.
            device: Where arrays are drawn. A scalar is always drawn on the CPU, so that a GPU need not be waited for.
            generator: Source of randomness on that device (for a scalar: on the CPU), default torch's own.

        Returns:
            Shape ``[]``, ``[vectors, 1]``, ``[1, dims]`` or ``[vectors, dims]`` by granularity.
        """
        shape = dict(batch=(), sample=(vectors, 1), dim=(1, dims), element=(vectors, dims))[self.granularity]
        place = 'cpu' if self.granularity == 'batch' else device
        if self.dist == 'uniform':
            return draw(torch.rand, shape, generator, device=place).add_(self.shift)
        return symmetric_beta(self.alpha, shape, place, generator).add_(self.shift)


def symmetric_beta(
    alpha: float,
    shape: tuple[int, ...],
    device: torch.device | str = 'cpu',
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw from Beta(alpha, alpha), exactly in law.

    Above 1/2 by the polar method, ``1/2 + cos(2 pi u) sqrt(1 - v^(2 / (2 alpha - 1))) / 2`` with uniform ``u`` and
    ``v`` (Devroye, Non-Uniform Random Variate Generation, IX.4.1), several times as fast as two gamma draws an entry;
    below, by gamma draws.

    Args:
        alpha: Parameter, positive.
        shape: Shape of the result.
        device: Where to draw.
        generator: Source of randomness on that device, default torch's own.
    """
    if alpha <= 0.5:
        return torch._sample_dirichlet(torch.full((*shape, 2), float(alpha), device=device), generator)[..., 0].clone()
    radius = draw(torch.rand, shape, generator, device=device)
    radius = radius.pow_(2 / (2 * alpha - 1)).neg_().add_(1).sqrt_()
    angle = draw(torch.rand, shape, generator, device=device).mul_(2 * math.pi)
    return angle.cos_().mul_(radius).mul_(0.5).add_(0.5)
