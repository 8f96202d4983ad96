"""The linear model of the closed form: tokens as weighted sums of grid nodes and position entries.

``F`` is a bilinear grid of M nodes and ``G`` a table of K token positions, so that every token is ``y = X [f; g]`` with
five non-zero entries in its row of ``X``. The rows depend on the coordinates of the views, not on the image.
"""

from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from .least_squares import build_csr, csr_tensor

VIEWS_PER_BLOCK = 64


def bilinear_rows(coords: np.ndarray, nodes: tuple[int, int]) -> sp.csr_array:
    """Return the matrix of bilinear interpolation in a grid.

    Args:
        coords: Points ``(x, y)`` in [0, 1], ``[T, 2]``; the outer nodes are at 0 and 1.
        nodes: Rows and columns of the grid.

    Returns:
        ``[T, M]``, four entries per row.
    """
    position = coords.astype(np.float64) * (np.array(nodes[::-1]) - 1)
    cell = np.clip(np.floor(position).astype(np.int64), 0, np.array(nodes[::-1]) - 2)
    far = position - cell
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


class DesignMatrix:
    """The matrix ``X`` of the tokens of all views, and its products.

    Args:
        coords: Image coordinates of the tokens, ``[V, rows, columns, 2]``.
        nodes: Rows and columns of the grid of ``F``.
        device: Device of products with features.
        with_artifact: Whether the model has ``G``; without it K is 0.
    """

    def __init__(
        self, coords: Tensor, nodes: tuple[int, int], device: torch.device | str = 'cpu', with_artifact: bool = True
    ):
        self.nodes, self.device = tuple(nodes), device
        self.num_views, *self.grid = coords.shape[:3]
        self.num_positions = self.grid[0] * self.grid[1]
        self.num_nodes = nodes[0] * nodes[1]
        semantics = bilinear_rows(coords.reshape(-1, 2).cpu().numpy(), nodes)
        artifact = sp.vstack([sp.eye_array(self.num_positions, format='csr')] * self.num_views)
        self.matrix = sp.csr_array(sp.hstack([semantics, artifact])) if with_artifact else semantics
        self.num_tokens = self.matrix.shape[0]

    @cached_property
    def roughness(self) -> sp.csr_array:
        """Smoothness term for a weight of 1, scaled by the tokens per node, ``[M, M]``."""
        return self.num_tokens / self.num_nodes * roughness(self.nodes)

    def normal_matrix(self, weights: np.ndarray | None = None) -> sp.csr_array:
        """Return ``X^T W X`` for token weights ``[T]``, ``[M + K, M + K]``."""
        weighted = self.matrix if weights is None else sp.diags_array(weights) @ self.matrix
        return sp.csr_array(self.matrix.T @ weighted)

    def right_sides(self, features: Tensor, weights: np.ndarray | None = None) -> np.ndarray:
        """Return ``X^T W y``, ``[M + K, C]``.

        Args:
            features: ``[V, rows, columns, C]`` of any float type on any device; some views at a time are copied.
            weights: Token weights ``[T]``; 1 by default.
        """
        scales = np.ones(self.num_tokens) if weights is None else weights
        total = torch.zeros(self.matrix.shape[1], features.shape[-1], device=self.device)
        for (columns, transposed), block in zip(self._transposed, features.split(VIEWS_PER_BLOCK), strict=True):
            scale = torch.from_numpy(scales[columns]).to(self.device, torch.float32)
            scaled = build_csr(
                transposed.crow_indices(),
                transposed.col_indices(),
                transposed.values() * scale[transposed.col_indices()],
                transposed.shape,
            )
            total += scaled @ block.to(self.device, torch.float32).flatten(0, 2)
        return total.double().cpu().numpy()

    @cached_property
    def _transposed(self) -> list[tuple[slice, Tensor]]:
        """Return column range and matrix of every block of ``X^T``."""
        step = VIEWS_PER_BLOCK * self.num_positions
        slices = [slice(start, start + step) for start in range(0, self.num_tokens, step)]
        blocks = [sp.csr_array(self.matrix[rows].T.tocsr()) for rows in slices]
        return [(rows, csr_tensor(block, self.device)) for rows, block in zip(slices, blocks, strict=True)]
