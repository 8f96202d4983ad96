"""What denoising finds out about one image, whichever way it was found."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Solution:
    """The parts of an image's features.

    Attributes:
        semantics: ``F``: maps coordinates ``(x, y)`` in [0, 1], ``[..., 2]``, to content ``[..., C]``.
        artifact: ``G``, ``[rows, columns, C]``.
        residual: ``Delta``: maps raw features ``[..., C]`` to the remainder ``[..., C]``; None if it was not fitted.
        weights: Weights of the tokens in the last pass of the closed form, ``[T]``, if it reweighted.
        smoothness: Weight of the smoothness that the closed form chose.
    """

    semantics: Callable[[Tensor], Tensor]
    artifact: Tensor
    residual: Callable[[Tensor], Tensor] | None = None
    weights: np.ndarray | None = None
    smoothness: float | None = None
