"""Closed form of per-image denoising: ``F`` on a grid and ``G`` a table are one linear least-squares problem.

What is published fits a network for each image. With a bilinear grid in its place, the equations depend on the views
alone; all images share one set of views, the equations are factorised once, and an image costs one right-hand side.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from reprefine.engine.errors import UserError

from .design_matrix import Design, Factor, bilinear_rows, sparse_tensor
from .residual_map import fit_residual_map
from .solution import Solution

DELTA_TOKENS = 16384


@dataclass(frozen=True)
class ClosedFormConfig:
    """How the least-squares problem is set up.

    Attributes:
        nodes: Rows and columns of the grid of ``F``; by default 2.6 times those of the tokens.
        smoothness: Weight of the squared second differences of ``F``, relative to the tokens of a node; None chooses it
            for each image by generalised cross-validation.
        candidates: The weights to choose from, ascending.
        reweight: Passes in which tokens that fit badly lose weight.
        probes: Random mixtures of the channels on which smoothness and weights are found.
        solver: ``'factor'`` factorises the equations; ``'cg'`` iterates on the device (conjugate gradients).
        disable_artifact: Keep ``G`` at 0.
        residual: Whether ``Delta`` is fitted, as a linear map of the raw feature.
        seed: Of the mixtures.
    """

    nodes: tuple[int, int] | None = None
    smoothness: float | None = None
    candidates: Sequence[float] = tuple(10.0**power for power in range(-3, 4))
    reweight: int = 1
    probes: int = 16
    solver: str = 'factor'
    disable_artifact: bool = False
    residual: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.solver not in ('factor', 'cg'):
            raise UserError(f"solver of the closed form is 'factor' or 'cg', not {self.solver!r}")


def token_weights(errors: np.ndarray) -> np.ndarray:
    """Return the weights ``(1 + (e / 2s)^2)^-2`` of tokens by their errors ``[T]``, scaled to a mean of 1.

    ``s`` is the median error; a token far off counts next to nothing, so outliers do not bend the fit (reweighted
    least squares).
    """
    scale = max(float(np.median(errors)), np.finfo(np.float64).tiny)
    weights = (1 + (errors / (2 * scale)) ** 2) ** -2.0
    return weights / weights.mean()


def gcv_score(squared_error: float, tokens: int, freedom: float) -> float:
    """Return the score of generalised cross-validation, ``T * RSS / (T - freedom)^2`` (Golub, Heath, Wahba 1979)."""
    return tokens * squared_error / (tokens - freedom) ** 2


def conjugate_gradients(
    product: Callable[[Tensor], Tensor],
    right: Tensor,
    precondition: Callable[[Tensor], Tensor],
    tolerance: float = 1e-6,
    max_steps: int = 5000,
) -> Tensor:
    """Solve symmetric equations for every column of ``right`` by preconditioned conjugate gradients.

    Args:
        product: Multiplies ``[n, C]`` with the matrix.
        right: Right-hand sides ``[n, C]``.
        precondition: Multiplies with an approximate inverse.
        tolerance: Largest norm of the rest relative to ``right``.
        max_steps: Steps at most.
    """
    solution, rest = torch.zeros_like(right), right
    towards = precondition(rest)
    direction, slope = towards, (rest * towards).sum(0)
    limit = tolerance**2 * right.square().sum(0)
    for step in range(max_steps):
        # A look at the rest waits for the device.
        if step % 10 == 0 and bool((rest.square().sum(0) <= limit).all()):
            break
        image = product(direction)
        length = slope / (direction * image).sum(0).clamp(min=1e-300)
        solution, rest = solution + length * direction, rest - length * image
        towards = precondition(rest)
        new = (rest * towards).sum(0)
        direction, slope = towards + new / slope.clamp(min=1e-300) * direction, new
    return solution


class ClosedForm:
    """Denoises any number of images that are seen through the same views.

    Args:
        coords: Image coordinates of the tokens of the views, ``[V, rows, columns, 2]``.
        config: How to solve.
        device: Where products with features, and conjugate gradients, are computed.
    """

    def __init__(self, coords: Tensor, config: ClosedFormConfig | None = None, device: torch.device | str = 'cpu'):
        self.config, self.coords = config or ClosedFormConfig(), coords
        nodes = self.config.nodes or tuple(max(round(2.6 * count), 4) for count in coords.shape[1:3])
        self.design = Design(coords, nodes, device, not self.config.disable_artifact)
        self.normal = self.design.normal_matrix()
        self.factors: dict[float, tuple[Factor, float]] = {}

    def factor(self, smoothness: float) -> Factor:
        """Return the factorised equations for equal weights of all tokens; made once."""
        return self._factor(smoothness)[0]

    def freedom(self, smoothness: float) -> float:
        """Return the degrees of freedom of the fit: the trace of its hat matrix, estimated by Hutchinson's signs."""
        return self._factor(smoothness)[1]

    def _factor(self, smoothness: float) -> tuple[Factor, float]:
        if smoothness not in self.factors:
            factor = Factor(self.normal, smoothness * self.design.roughness)
            rng = np.random.default_rng(self.config.seed)
            signs = rng.choice([-1.0, 1.0], (self.normal.shape[0], self.config.probes))
            # The normal matrix times the solution for zero-mean signs: a constant is one parameter, not two.
            trace = (signs * (self.normal @ factor.solve(signs))).sum() / self.config.probes
            self.factors[smoothness] = factor, trace
        return self.factors[smoothness]

    def fit(self, features: Tensor) -> Solution:
        """Solve for one image.

        Args:
            features: Raw features of the views, ``[V, rows, columns, C]``, of any float type and anywhere.
        """
        mixed = self._mix(features)
        weights = None
        smoothness, fitted = self._choose(mixed)
        for _ in range(self.config.reweight):
            errors = mixed - fitted
            weights = token_weights(np.sqrt((errors**2).mean(1)))
            kept = np.minimum(weights / np.median(weights), 1)[:, None]
            # In place of what an outlier says stands what the fit says: all choices share the factorised equations.
            smoothness, fitted = self._choose(fitted + kept * errors, smoothness)
        parameters = self._solve(self.design.right_sides(features, weights), weights, smoothness)
        return self._solution(features, parameters, weights, smoothness)

    def _mix(self, features: Tensor) -> np.ndarray:
        """Return random mixtures of the channels, ``[T, probes]``; the channels themselves if there are no more."""
        channels = features.shape[-1]
        if channels <= self.config.probes:
            return features.reshape(-1, channels).double().cpu().numpy()
        rng = np.random.default_rng(self.config.seed)
        mixture = torch.from_numpy(rng.normal(size=(channels, self.config.probes)) / math.sqrt(channels))
        mixture = mixture.to(features.device, torch.float32)
        parts = [(part.float() @ mixture).flatten(0, 2).cpu() for part in features.split(64)]
        return torch.cat(parts).double().numpy()

    def _choose(self, target: np.ndarray, start: float | None = None) -> tuple[float, np.ndarray]:
        """Return the smoothness of least score, and what the fit with it says of the target, ``[T, probes]``.

        The search walks along the candidates from ``start``, or the middle, as long as the score falls.
        """
        right = self.design.matrix.T @ target
        values = self.config.candidates if self.config.smoothness is None else [self.config.smoothness]
        tried: dict[int, tuple[float, np.ndarray]] = {}

        def score(index: int) -> float:
            if not 0 <= index < len(values):
                return math.inf
            if index not in tried:
                fitted = self.design.matrix @ self.factor(values[index]).solve(right)
                error = float(((target - fitted) ** 2).sum())
                tried[index] = gcv_score(error, len(target), self.freedom(values[index])), fitted
            return tried[index][0]

        place = len(values) // 2 if start is None else values.index(start)
        while (best := min((place, place - 1, place + 1), key=score)) != place:
            place = best
        return values[place], tried[place][1]

    def _solve(self, right: np.ndarray, weights: np.ndarray | None, smoothness: float) -> np.ndarray:
        """Solve for all channels; the mean of ``G`` goes to ``F``."""
        if self.config.solver == 'cg':
            return self._solve_on_device(right, weights, smoothness)
        if weights is None:
            return self.factor(smoothness).solve(right)
        # Factorising anew costs less than two steps of conjugate gradients over all channels.
        normal = self.design.normal_matrix(weights)
        return Factor(normal, smoothness * self.design.roughness, keep=True).solve(right)

    def _solve_on_device(self, right: np.ndarray, weights: np.ndarray | None, smoothness: float) -> np.ndarray:
        count = self.design.num_nodes
        places = self.design.matrix.shape[1] - count
        penalty = sp.block_diag([smoothness * self.design.roughness, sp.csr_array((places, places))])
        matrix = sp.csr_array(self.design.normal_matrix(weights) + penalty)
        device = self.design.device
        inverse = torch.from_numpy(1 / matrix.diagonal())[:, None].to(device)
        tensor = sparse_tensor(matrix, device, torch.float64)
        columns = torch.from_numpy(right).to(device)
        found = conjugate_gradients(lambda x: tensor @ x, columns, lambda x: inverse * x).cpu().numpy()
        mean = found[count:].mean(0) if places else 0
        return np.concatenate([found[:count] + mean, found[count:] - mean])

    def _solution(
        self, features: Tensor, parameters: np.ndarray, weights: np.ndarray | None, smoothness: float
    ) -> Solution:
        count, nodes = self.design.num_nodes, self.design.nodes
        content = parameters[:count]

        def semantics(coords: Tensor) -> Tensor:
            values = bilinear_rows(coords.reshape(-1, 2).cpu().numpy(), nodes) @ content
            return torch.from_numpy(values).float().reshape(*coords.shape[:-1], -1)

        residual = None
        if self.config.residual:
            rng = np.random.default_rng(self.config.seed)
            rows = np.sort(rng.choice(self.design.tokens, min(DELTA_TOKENS, self.design.tokens), replace=False))
            raw = features.flatten(0, 2)[torch.from_numpy(rows).to(features.device)].float().cpu()
            explained = torch.from_numpy(self.design.matrix[rows] @ parameters).float()
            residual = fit_residual_map(raw, raw - explained)
        artifact = torch.zeros(self.design.places, features.shape[-1])
        if not self.config.disable_artifact:
            artifact = torch.from_numpy(parameters[count:]).float()
        return Solution(semantics, artifact.unflatten(0, tuple(self.design.grid)), residual, weights, smoothness)
