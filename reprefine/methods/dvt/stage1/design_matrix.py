"""The linear model behind the closed form: tokens as weighted sums of grid nodes and places.

``F`` is a bilinear grid of M nodes and ``G`` a table of K places, so every token is ``y = X [f; g]`` with five
entries in its row of ``X``. The rows depend on where the views lie, never on the image.
"""

import warnings
from collections.abc import Iterator
from functools import cached_property

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import splu
from torch import Tensor

VIEWS_AT_ONCE = 64
BLOCK = 256


def bilinear_rows(coords: np.ndarray, nodes: tuple[int, int]) -> sp.csr_array:
    """Return the matrix that reads a grid at points.

    Args:
        coords: Points ``(x, y)`` in [0, 1], ``[T, 2]``; the outer nodes lie on the border.
        nodes: Rows and columns of the grid.

    Returns:
        ``[T, M]``, four entries a row.
    """
    place = coords.astype(np.float64) * (np.array(nodes[::-1]) - 1)
    cell = np.clip(np.floor(place).astype(np.int64), 0, np.array(nodes[::-1]) - 2)
    far = place - cell
    near = 1 - far
    weights = [y * x for y in (near[:, 1], far[:, 1]) for x in (near[:, 0], far[:, 0])]
    first = cell[:, 1] * nodes[1] + cell[:, 0]
    indices = [first + row * nodes[1] + column for row in (0, 1) for column in (0, 1)]
    pointers = np.arange(len(coords) + 1) * 4
    return sp.csr_array(
        (np.stack(weights, 1).ravel(), np.stack(indices, 1).ravel(), pointers), shape=(len(coords), nodes[0] * nodes[1])
    )


def roughness(nodes: tuple[int, int]) -> sp.csr_array:
    """Return the matrix of the sum of squared second differences (thin plate), ``[M, M]``."""
    rows, columns = nodes
    eye = sp.eye_array
    terms = [
        sp.kron(eye(rows), _difference(columns, 2)),
        sp.kron(_difference(rows, 2), eye(columns)),
        np.sqrt(2) * sp.kron(_difference(rows, 1), _difference(columns, 1)),
    ]
    return sp.csr_array(sum(term.T @ term for term in terms))


def _difference(count: int, order: int) -> sp.dia_array:
    stencil = ((-1.0, 1.0), (1.0, -2.0, 1.0))[order - 1]
    bands = [np.full(count, value) for value in stencil]
    return sp.dia_array((bands, range(order + 1)), shape=(count - order, count))


class Design:
    """Where the tokens of all views lie: the matrix ``X`` and its products.

    Args:
        coords: Image coordinates of the tokens, ``[V, rows, columns, 2]``.
        nodes: Rows and columns of the grid of ``F``.
        device: Where products with features are computed.
        with_artifact: Whether the tokens depend on their places; if not, K is 0.
    """

    def __init__(
        self, coords: Tensor, nodes: tuple[int, int], device: torch.device | str = 'cpu', with_artifact: bool = True
    ):
        self.nodes, self.device = tuple(nodes), device
        self.views, *self.grid = coords.shape[:3]
        self.places = self.grid[0] * self.grid[1]
        self.num_nodes = nodes[0] * nodes[1]
        content = bilinear_rows(coords.reshape(-1, 2).cpu().numpy(), nodes)
        place = sp.vstack([sp.eye_array(self.places, format='csr')] * self.views)
        self.matrix = sp.csr_array(sp.hstack([content, place])) if with_artifact else content
        self.tokens = self.matrix.shape[0]

    @cached_property
    def roughness(self) -> sp.csr_array:
        """Smoothness term for a weight of 1 relative to the tokens of a node, ``[M, M]``."""
        return self.tokens / self.num_nodes * roughness(self.nodes)

    def normal_matrix(self, weights: np.ndarray | None = None) -> sp.csr_array:
        """Return ``X^T W X`` for token weights ``[T]``, ``[M + K, M + K]``."""
        weighted = self.matrix if weights is None else sp.diags_array(weights) @ self.matrix
        return sp.csr_array(self.matrix.T @ weighted)

    def right_sides(self, features: Tensor, weights: np.ndarray | None = None) -> np.ndarray:
        """Return ``X^T W y`` for features ``[V, rows, columns, C]`` of any float type and anywhere, ``[M + K, C]``.

        Features are brought to the device some views at a time.
        """
        scales = np.ones(self.tokens) if weights is None else weights
        total = torch.zeros(self.matrix.shape[1], features.shape[-1], device=self.device)
        for (columns, transposed), part in zip(self._transposed, features.split(VIEWS_AT_ONCE), strict=True):
            own = torch.from_numpy(scales[columns]).to(self.device, torch.float32)
            scaled = _sparse(
                transposed.crow_indices(),
                transposed.col_indices(),
                transposed.values() * own[transposed.col_indices()],
                transposed.shape,
            )
            total += scaled @ part.to(self.device, torch.float32).flatten(0, 2)
        return total.double().cpu().numpy()

    @cached_property
    def _transposed(self) -> list[tuple[slice, Tensor]]:
        """Return the columns and the matrix of every part of ``X^T``."""
        step = VIEWS_AT_ONCE * self.places
        slices = [slice(start, start + step) for start in range(0, self.tokens, step)]
        parts = [sp.csr_array(self.matrix[rows].T.tocsr()) for rows in slices]
        return [(rows, sparse_tensor(part, self.device)) for rows, part in zip(slices, parts, strict=True)]


def sparse_tensor(matrix: sp.csr_array, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return a sparse matrix as a tensor in compressed rows."""
    arrays = (matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64), matrix.data)
    rows, columns, values = (torch.from_numpy(array).to(device) for array in arrays)
    return _sparse(rows, columns, values.to(dtype), matrix.shape)


def _sparse(rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='Sparse ')  # torch calls the layout a beta, and its checks optional
        return torch.sparse_csr_tensor(rows, columns, values, shape)


class Factor:
    """Solves ``(X^T W X + smoothness * R) [f; g] = b`` for any number of columns after one factorisation.

    The nodes have a sparse matrix ``A`` and are eliminated; a dense ``S`` of the places is left. A constant may move
    between ``f`` and ``g``: of all solutions the one with a mean of ``g`` of 0 is returned.

    Args:
        normal: ``X^T W X``, ``[M + K, M + K]``.
        penalty: The smoothness term times its weight, ``[M, M]``.
        keep: Keep what elimination gives, a dense ``[M, K]`` of a gigabyte at small strides, in place of a second
            solution for the nodes: faster for many columns.
    """

    def __init__(self, normal: sp.csr_array, penalty: sp.csr_array, keep: bool = False):
        self.normal, count = normal, penalty.shape[0]
        self.num_nodes, self.places = count, normal.shape[0] - count
        nodes = sp.csc_array(normal[:count, :count] + penalty)
        self.lu = splu(nodes, permc_spec='MMD_AT_PLUS_A', diag_pivot_thresh=0.0, options=dict(SymmetricMode=True))
        self.eliminated = np.empty((count, self.places)) if keep else None
        if self.places:
            self.reduced = scipy.linalg.cho_factor(self._reduced(), lower=True, overwrite_a=True)

    def _reduced(self) -> np.ndarray:
        """Return ``S`` at and below its diagonal."""
        tokens = self.normal.diagonal()[self.num_nodes :]
        reduced = np.diag(tokens) + tokens.mean() / self.places
        for columns, cross in self._cross():
            eliminated = self.lu.solve(cross.T)
            if self.eliminated is not None:
                self.eliminated[:, columns] = eliminated
            for rows, other in self._cross(columns.start):
                reduced[rows, columns] -= other @ eliminated
        return reduced

    def _cross(self, first: int = 0) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield places, from ``first`` on, and their rows of the matrix of places and nodes, some at a time."""
        for start in range(first, self.places, BLOCK):
            rows = self.normal[self.num_nodes + start : self.num_nodes + start + BLOCK]
            yield slice(start, start + BLOCK), rows.toarray()[:, : self.num_nodes]

    def solve(self, right: np.ndarray) -> np.ndarray:
        """Solve for columns ``[M + K, C]``."""
        nodes, places = np.array(right[: self.num_nodes]), np.array(right[self.num_nodes :])
        content = self.lu.solve(nodes)
        if not self.places:
            return content
        for part, cross in self._cross():
            places[part] -= cross @ content
        places = scipy.linalg.cho_solve(self.reduced, places)
        if self.eliminated is not None:
            return np.concatenate([content - self.eliminated @ places, places])
        for part, cross in self._cross():
            nodes -= cross.T @ places[part]
        return np.concatenate([self.lu.solve(nodes), places])
