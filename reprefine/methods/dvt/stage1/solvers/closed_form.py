"""Closed-form solver: ``F`` on a bilinear grid and ``G`` as a table are one linear least-squares problem.

The paper fits a neural field to each image. With a bilinear grid instead, the equations depend on the views alone; all
images share one set of views, the equations are factorised once, and an image adds only a right-hand side.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from reprefine.engine.errors import UserError

from .design_matrix import DesignMatrix, bilinear_rows
from .least_squares import Factorization, conjugate_gradients, csr_tensor
from .residual_map import fit_residual_map
from .solver import OnStep, Solution

DELTA_TOKENS = 16384


@dataclass(frozen=True)
class ClosedFormConfig:
    """Settings of the least-squares problem.

    Attributes:
        nodes: Rows and columns of the grid of ``F``; by default 2.6 times those of the tokens.
        smoothness: Weight of the squared second differences of ``F``, relative to the tokens per node; None chooses it
            for each image by generalised cross-validation.
        candidates: The weights to choose from, ascending.
        reweight: Number of passes of robust reweighting.
        probes: Random projections of the channels from which smoothness and token weights are estimated.
        solver: ``'factor'`` factorises the equations; ``'cg'`` runs conjugate gradients on the device.
        disable_artifact: Fix ``G`` at 0.
        residual: Whether ``Delta`` is fitted, as a linear map of the raw features.
        seed: Seed of the random projections.
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
            raise UserError(f"stage1.closed_form.solver={self.solver!r}: use 'factor' or 'cg'")
        for name, minimum in (('reweight', 0), ('probes', 1)):
            if getattr(self, name) < minimum:
                raise UserError(f'stage1.closed_form.{name}={getattr(self, name)}: must be at least {minimum}')
        if self.nodes is not None and (len(self.nodes) != 2 or min(self.nodes) < 3):
            raise UserError(f'stage1.closed_form.nodes={self.nodes}: give rows and columns, at least 3 each')


def token_weights(errors: np.ndarray) -> np.ndarray:
    """Return the weights ``(1 + (e / 2s)^2)^-2`` of tokens with errors ``[T]``, scaled to a mean of 1.

    ``s`` is the median error; outliers get weights near 0 (iteratively reweighted least squares).
    """
    scale = max(float(np.median(errors)), np.finfo(np.float64).tiny)
    weights = (1 + (errors / (2 * scale)) ** 2) ** -2.0
    return weights / weights.mean()


def gcv_score(squared_error: float, tokens: int, freedom: float) -> float:
    """Return the score of generalised cross-validation, ``T * RSS / (T - freedom)^2`` (Golub, Heath, Wahba 1979)."""
    return tokens * squared_error / (tokens - freedom) ** 2


class ClosedForm:
    """The least-squares problem of one set of views, for any number of images.

    Args:
        coords: Image coordinates of the tokens of the views, ``[V, rows, columns, 2]``.
        config: Settings.
        device: Device of products with features, and of conjugate gradients.
    """

    def __init__(self, coords: Tensor, config: ClosedFormConfig | None = None, device: torch.device | str = 'cpu'):
        self.config, self.coords = config or ClosedFormConfig(), coords
        nodes = self.config.nodes or tuple(max(round(2.6 * count), 4) for count in coords.shape[1:3])
        self.design = DesignMatrix(coords, nodes, device, not self.config.disable_artifact)
        self.normal = self.design.normal_matrix()
        self.factorizations: dict[float, tuple[Factorization, float]] = {}

    def factorization(self, smoothness: float) -> Factorization:
        """Return the factorised equations for equal weights of all tokens; cached."""
        return self._factorize(smoothness)[0]

    def degrees_of_freedom(self, smoothness: float) -> float:
        """Return the trace of the hat matrix of the fit, by Hutchinson's estimator with random signs."""
        return self._factorize(smoothness)[1]

    def _factorize(self, smoothness: float) -> tuple[Factorization, float]:
        if smoothness not in self.factorizations:
            factorization = Factorization(self.normal, smoothness * self.design.roughness)
            rng = np.random.default_rng(self.config.seed)
            signs = rng.choice([-1.0, 1.0], (self.normal.shape[0], self.config.probes))
            # The solution has zero mean of g, so that the constant that f and g share counts once.
            trace = (signs * (self.normal @ factorization.solve(signs))).sum() / self.config.probes
            self.factorizations[smoothness] = factorization, trace
        return self.factorizations[smoothness]

    def fit(self, features: Tensor) -> Solution:
        """Solve for one image.

        Args:
            features: Raw features of the views, ``[V, rows, columns, C]``, of any float type on any device.
        """
        projected = self._project(features)
        weights = None
        smoothness, fitted = self._choose_smoothness(projected)
        for _ in range(self.config.reweight):
            errors = projected - fitted
            weights = token_weights(np.sqrt((errors**2).mean(1)))
            shrinkage = np.minimum(weights / np.median(weights), 1)[:, None]
            # Outliers are moved towards the fit instead of weighted: all candidates share the factorised equations.
            smoothness, fitted = self._choose_smoothness(fitted + shrinkage * errors, smoothness)
        parameters = self._solve(self.design.right_sides(features, weights), weights, smoothness)
        return self._solution(features, parameters, weights, smoothness)

    def _project(self, features: Tensor) -> np.ndarray:
        """Return random projections of the channels, ``[T, probes]``; the channels themselves if there are no more."""
        channels = features.shape[-1]
        if channels <= self.config.probes:
            return features.reshape(-1, channels).double().cpu().numpy()
        rng = np.random.default_rng(self.config.seed)
        projection = torch.from_numpy(rng.normal(size=(channels, self.config.probes)) / math.sqrt(channels))
        projection = projection.to(features.device, torch.float32)
        blocks = [(block.float() @ projection).flatten(0, 2).cpu() for block in features.split(64)]
        return torch.cat(blocks).double().numpy()

    def _choose_smoothness(self, target: np.ndarray, start: float | None = None) -> tuple[float, np.ndarray]:
        """Return the smoothness of lowest score and the fitted target ``[T, probes]``.

        The search descends along the candidates from ``start``, or from the middle one.
        """
        right = self.design.matrix.T @ target
        values = self.config.candidates if self.config.smoothness is None else [self.config.smoothness]
        evaluated: dict[int, tuple[float, np.ndarray]] = {}

        def score(index: int) -> float:
            if not 0 <= index < len(values):
                return math.inf
            if index not in evaluated:
                fitted = self.design.matrix @ self.factorization(values[index]).solve(right)
                error = float(((target - fitted) ** 2).sum())
                evaluated[index] = gcv_score(error, len(target), self.degrees_of_freedom(values[index])), fitted
            return evaluated[index][0]

        current = len(values) // 2 if start is None else values.index(start)
        while (best := min((current, current - 1, current + 1), key=score)) != current:
            current = best
        return values[current], evaluated[current][1]

    def _solve(self, right: np.ndarray, weights: np.ndarray | None, smoothness: float) -> np.ndarray:
        """Solve for all channels; ``G`` has zero mean."""
        if self.config.solver == 'cg':
            return self._solve_iteratively(right, weights, smoothness)
        if weights is None:
            return self.factorization(smoothness).solve(right)
        # Another factorisation costs less than two steps of conjugate gradients over all channels.
        normal = self.design.normal_matrix(weights)
        return Factorization(normal, smoothness * self.design.roughness, keep=True).solve(right)

    def _solve_iteratively(self, right: np.ndarray, weights: np.ndarray | None, smoothness: float) -> np.ndarray:
        count = self.design.num_nodes
        positions = self.design.matrix.shape[1] - count
        penalty = sp.block_diag([smoothness * self.design.roughness, sp.csr_array((positions, positions))])
        matrix = sp.csr_array(self.design.normal_matrix(weights) + penalty)
        device = self.design.device
        inverse = torch.from_numpy(1 / matrix.diagonal())[:, None].to(device)
        tensor = csr_tensor(matrix, device, torch.float64)
        columns = torch.from_numpy(right).to(device)
        found = conjugate_gradients(lambda x: tensor @ x, columns, lambda x: inverse * x).cpu().numpy()
        mean = found[count:].mean(0) if positions else 0
        return np.concatenate([found[:count] + mean, found[count:] - mean])

    def _solution(
        self, features: Tensor, parameters: np.ndarray, weights: np.ndarray | None, smoothness: float
    ) -> Solution:
        count, nodes = self.design.num_nodes, self.design.nodes
        grid_values = parameters[:count]

        def semantics(coords: Tensor) -> Tensor:
            values = bilinear_rows(coords.reshape(-1, 2).cpu().numpy(), nodes) @ grid_values
            return torch.from_numpy(values).float().reshape(*coords.shape[:-1], -1)

        residual = None
        if self.config.residual:
            rng = np.random.default_rng(self.config.seed)
            tokens = self.design.num_tokens
            rows = np.sort(rng.choice(tokens, min(DELTA_TOKENS, tokens), replace=False))
            raw = features.flatten(0, 2)[torch.from_numpy(rows).to(features.device)].float().cpu()
            explained = torch.from_numpy(self.design.matrix[rows] @ parameters).float()
            residual = fit_residual_map(raw, raw - explained)
        artifact = torch.zeros(self.design.num_positions, features.shape[-1])
        if not self.config.disable_artifact:
            artifact = torch.from_numpy(parameters[count:]).float()
        return Solution(semantics, artifact.unflatten(0, tuple(self.design.grid)), residual, weights, smoothness)


class ClosedFormSolver:
    """The closed form as a :class:`~.solver.Solver`: all images have the same views and share their equations.

    Args:
        config: Settings.
        seed: Seed of the views.
        device: Device to compute on.
    """

    def __init__(self, config: ClosedFormConfig, seed: int = 0, device: torch.device | str = 'cpu'):
        self.config, self.seed, self.device = config, seed, device
        self.equations: ClosedForm | None = None

    def view_seed(self, name: str) -> int:
        """Return the seed of the views, the same for all images."""
        return self.seed

    def solve(
        self,
        features: Sequence[Tensor],
        coords: Sequence[Tensor],
        names: Sequence[str] = (),
        on_step: OnStep | None = None,
    ) -> list[Solution]:
        """Decompose the features of several images, see :meth:`.Solver.solve`; nothing here is random or iterative."""
        return [self._equations(points).fit(raw) for raw, points in zip(features, coords, strict=True)]

    def _equations(self, coords: Tensor) -> ClosedForm:
        """Return the equations of these coordinates; those of the last coordinates are kept."""
        if self.equations is None or not torch.equal(self.equations.coords, coords.cpu()):
            self.equations = ClosedForm(coords.cpu(), self.config, self.device)
        return self.equations
