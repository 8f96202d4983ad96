"""The interface of the solvers of stage 1 and what they return."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from ...functional import recentered

Terms = dict[str, Tensor]
OnStep = Callable[[int, Terms], None]


@dataclass(frozen=True)
class Solution:
    """The decomposition ``y = F + G + Delta`` of the features of one image.

    Attributes:
        semantics: ``F``: maps coordinates ``(x, y)`` in [0, 1], ``[..., 2]``, to features ``[..., C]``.
        artifact: ``G``, ``[rows, columns, C]``.
        residual: ``Delta``: maps raw features ``[..., C]`` to residuals ``[..., C]``; None if it was not fitted.
        weights: Weights of the tokens in the last pass of the closed form, ``[T]``; None without reweighting.
        smoothness: Weight of the smoothness term that the closed form has chosen.
    """

    semantics: Callable[[Tensor], Tensor]
    artifact: Tensor
    residual: Callable[[Tensor], Tensor] | None = None
    weights: np.ndarray | None = None
    smoothness: float | None = None

    def components(self, raw: Tensor, coords: Tensor, recenter: bool = False) -> dict[str, Tensor | None]:
        """Evaluate the decomposition at the tokens of one view.

        Args:
            raw: Raw features of the view, ``[rows, columns, C]``.
            coords: Image coordinates of its tokens, ``[rows, columns, 2]``.
            recenter: Whether to move the mean of ``G`` to ``F``.

        Returns:
            ``F``, ``G``, ``Delta`` (None without a residual), ``raw``, and ``subtracted``, which is ``raw`` minus ``G``
            and ``Delta``, the second estimate of the semantics, for inspection. Each ``[rows, columns, C]``, float32,
            on the CPU.
        """
        raw = raw.float().cpu()
        semantics, artifact = self.semantics(coords), self.artifact
        if recenter:
            semantics, artifact = recentered(semantics, artifact)
        residual = None if self.residual is None else self.residual(raw)
        subtracted = raw - artifact if residual is None else raw - artifact - residual
        return dict(F=semantics, G=artifact, Delta=residual, raw=raw, subtracted=subtracted)


class Solver(Protocol):
    """Decomposes the features of images into semantics ``F``, artifact ``G`` and residual ``Delta``."""

    def view_seed(self, name: str) -> int:
        """Return the seed of the views of an image.

        Args:
            name: Name of the image.
        """

    def solve(
        self,
        features: Sequence[Tensor],
        coords: Sequence[Tensor],
        names: Sequence[str],
        on_step: OnStep | None = None,
    ) -> list[Solution]:
        """Decompose the features of several images.

        Args:
            features: Raw features of the views of each image, ``[V, rows, columns, C]``.
            coords: Image coordinates of their tokens, ``[V, rows, columns, 2]``, float32.
            names: Names of the images, which the random numbers of an iterative solver depend on.
            on_step: Called after every step of an iterative solver with the number of the step, from 0, and the terms
                of the loss, each ``[images]``.
        """
