"""Direct and iterative solvers of the sparse normal equations."""

import warnings
from collections.abc import Callable, Iterator

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import splu
from torch import Tensor

BLOCK = 256


def csr_tensor(matrix: sp.csr_array, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return a sparse matrix as a CSR tensor."""
    arrays = (matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64), matrix.data)
    rows, columns, values = (torch.from_numpy(array).to(device) for array in arrays)
    return build_csr(rows, columns, values.to(dtype), matrix.shape)


def build_csr(rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """Build a CSR tensor without PyTorch's warnings about the layout.

    Args:
        rows: Row pointers.
        columns: Column indices.
        values: Values.
        shape: Rows and columns.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='Sparse ')  # the layout is in beta, invariant checks are optional
        return torch.sparse_csr_tensor(rows, columns, values, shape)


class Factorization:
    """Solves ``(X^T W X + smoothness * R) [f; g] = b`` for any number of right-hand sides after one factorisation.

    The sparse matrix ``A`` of the grid nodes is eliminated, which leaves the dense Schur complement ``S`` of the token
    positions. A constant can move between ``f`` and ``g``: the solution with zero mean of ``g`` is returned.

    Args:
        normal: ``X^T W X``, ``[M + K, M + K]``.
        penalty: The smoothness term times its weight, ``[M, M]``.
        keep: Keep ``A^-1`` times the coupling of nodes and positions, a dense ``[M, K]`` of about 1 GB at small
            strides, instead of solving for the nodes twice: faster for many right-hand sides.
    """

    def __init__(self, normal: sp.csr_array, penalty: sp.csr_array, keep: bool = False):
        self.normal, count = normal, penalty.shape[0]
        self.num_nodes, self.num_positions = count, normal.shape[0] - count
        nodes = sp.csc_array(normal[:count, :count] + penalty)
        self.lu = splu(nodes, permc_spec='MMD_AT_PLUS_A', diag_pivot_thresh=0.0, options=dict(SymmetricMode=True))
        self.eliminated = np.empty((count, self.num_positions)) if keep else None
        if self.num_positions:
            self.schur = scipy.linalg.cho_factor(self._schur_complement(), lower=True, overwrite_a=True)

    def _schur_complement(self) -> np.ndarray:
        """Return ``S`` at and below its diagonal."""
        tokens = self.normal.diagonal()[self.num_nodes :]
        schur = np.diag(tokens) + tokens.mean() / self.num_positions
        for columns, coupling in self._couplings():
            eliminated = self.lu.solve(coupling.T)
            if self.eliminated is not None:
                self.eliminated[:, columns] = eliminated
            for rows, other in self._couplings(columns.start):
                schur[rows, columns] -= other @ eliminated
        return schur

    def _couplings(self, first: int = 0) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield blocks of positions, from ``first`` on, and their dense rows of the coupling with the nodes."""
        for start in range(first, self.num_positions, BLOCK):
            rows = self.normal[self.num_nodes + start : self.num_nodes + start + BLOCK]
            yield slice(start, start + BLOCK), rows.toarray()[:, : self.num_nodes]

    def solve(self, right: np.ndarray) -> np.ndarray:
        """Return the solutions ``[M + K, C]`` for right-hand sides ``[M + K, C]``."""
        nodes, positions = np.array(right[: self.num_nodes]), np.array(right[self.num_nodes :])
        semantics = self.lu.solve(nodes)
        if not self.num_positions:
            return semantics
        for block, coupling in self._couplings():
            positions[block] -= coupling @ semantics
        positions = scipy.linalg.cho_solve(self.schur, positions)
        if self.eliminated is not None:
            return np.concatenate([semantics - self.eliminated @ positions, positions])
        for block, coupling in self._couplings():
            nodes -= coupling.T @ positions[block]
        return np.concatenate([self.lu.solve(nodes), positions])


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
        tolerance: Largest norm of the residual relative to ``right``.
        max_steps: Maximum number of steps.
    """
    solution, residual = torch.zeros_like(right), right
    preconditioned = precondition(residual)
    direction, slope = preconditioned, (residual * preconditioned).sum(0)
    limit = tolerance**2 * right.square().sum(0)
    for step in range(max_steps):
        # Every check synchronises with the device.
        if step % 10 == 0 and bool((residual.square().sum(0) <= limit).all()):
            break
        image = product(direction)
        length = slope / (direction * image).sum(0).clamp(min=1e-300)
        solution, residual = solution + length * direction, residual - length * image
        preconditioned = precondition(residual)
        new = (residual * preconditioned).sum(0)
        direction, slope = preconditioned + new / slope.clamp(min=1e-300) * direction, new
    return solution
