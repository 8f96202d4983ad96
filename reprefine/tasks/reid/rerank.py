"""Re-ranking by k-reciprocal encoding (Zhong et al., CVPR 2017), with sparse matrices, block by block.

Two images are k-reciprocal neighbours if each is among the k nearest images of the other. An image is encoded by
weights on its k-reciprocal neighbours; encodings are compared by the Jaccard distance, and the result is a weighted sum
of this and the distance of the features. Encodings are sparse: memory is O(N) in the number N of images, time O(N^2).
"""

from collections.abc import Iterator

import numpy as np
import torch
from rich.progress import track
from scipy.sparse import csc_array, csr_array

from reprefine.engine.errors import UserError

from .functional import BLOCK, center, row_blocks, squared_distance


def rerank_blocks(
    queries: torch.Tensor,
    gallery: torch.Tensor,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    block: int = BLOCK,
) -> Iterator[np.ndarray]:
    """Yield blocks of re-ranked distances.

    Args:
        queries: Features, shape (Q, D).
        gallery: Features, shape (G, D).
        k1: Number of nearest neighbours among which reciprocal neighbours are searched.
        k2: Number of nearest images, including the image itself, whose encodings are averaged.
        lambda_value: Weight of the distance of the features; the Jaccard distance has 1 - ``lambda_value``.
        block: Maximum number of elements of a temporary array, unless one row has more.

    Returns:
        Iterator of blocks of rows, together of shape (Q, G).

    Raises:
        UserError: Not 1 <= k2 <= k1 < number of images.
    """
    features = center(torch.cat([queries, gallery]))
    queries, gallery = features.split([len(queries), len(gallery)])
    if not 1 <= k2 <= k1 < len(features):
        raise UserError(f'rerank: k2={k2}, k1={k1} with {len(features)} images: give 1 <= k2 <= k1 < number of images')
    neighbours, farthest = find_neighbours(features, k1, block)
    encoding = average_neighbours(encode(features, neighbours, farthest, block), neighbours[:, :k2])
    encoded_gallery = encoding[len(queries) :].tocsc()

    def weighted_sum(rows: slice) -> np.ndarray:
        distance = squared_distance(queries[rows], gallery) / farthest[rows, None]
        jaccard = [jaccard_distance(encoding[row : row + 1], encoded_gallery) for row in range(rows.start, rows.stop)]
        return lambda_value * distance.numpy() + (1 - lambda_value) * np.stack(jaccard)

    return (weighted_sum(rows) for rows in row_blocks(len(queries), len(gallery), block))


def find_neighbours(features: torch.Tensor, k: int, block: int = BLOCK) -> tuple[np.ndarray, torch.Tensor]:
    """Find the k nearest images of every image.

    Args:
        features: Shape (N, D).
        k: Number of neighbours.
        block: Maximum number of elements of a temporary array.

    Returns:
        Indices of the image itself and its k nearest, nearest first, shape (N, k + 1); and the squared distance to the
        farthest image, shape (N,).
    """
    nearest, farthest = [], []
    blocks = row_blocks(len(features), len(features), block)
    for rows in track(blocks, 'finding neighbours', transient=True, disable=len(blocks) == 1):
        distance = squared_distance(features[rows], features)
        nearest.append(distance.topk(k + 1, largest=False).indices)
        farthest.append(distance.amax(1))
    return torch.cat(nearest).numpy(), torch.cat(farthest).clamp(min=torch.finfo(features.dtype).tiny)


def reciprocal_neighbours(neighbours: np.ndarray) -> csr_array:
    """Return the 0/1 matrix (N, N) of reciprocal neighbours, from the neighbours' indices of shape (N, k)."""
    lists = _indicator(neighbours)
    return lists.multiply(lists.T).tocsr()


def _indicator(columns: np.ndarray) -> csr_array:
    """Return the 0/1 matrix (N, N) with ones at the ``columns`` (N, k) of each row."""
    size, count = columns.shape
    return csr_array((np.ones(columns.size, np.float32), columns.ravel(), np.arange(size + 1) * count), (size, size))


def expand(reciprocal: csr_array, half: csr_array) -> csr_array:
    """Add to each image's reciprocal neighbours those of a neighbour that shares more than two thirds of its own.

    Args:
        reciprocal: Reciprocal neighbours of every image among the k1 nearest, 0/1 matrix of (N, N).
        half: Reciprocal neighbours among the k1 / 2 nearest, 0/1 matrix of (N, N).

    Returns:
        0/1 matrix of (N, N).
    """
    shared = (reciprocal @ half.T).multiply(reciprocal).tocoo()
    accepted = 3 * shared.data > 2 * half.sum(1)[shared.col]
    chosen = csr_array((shared.data[accepted], (shared.row[accepted], shared.col[accepted])), shared.shape)
    expanded = (reciprocal + chosen @ half).tocsr()
    expanded.data[:] = 1
    return expanded


def encode(features: torch.Tensor, neighbours: np.ndarray, farthest: torch.Tensor, block: int = BLOCK) -> csr_array:
    """Return weights exp(-distance) of the expanded reciprocal neighbours, normalised to a sum of 1 per image.

    Args:
        features: Shape (N, D).
        neighbours: Indices of the image itself and its k1 nearest, shape (N, k1 + 1).
        farthest: Squared distance to the farthest image, which scales the distances, shape (N,).
        block: Maximum number of elements of a temporary array.

    Returns:
        Weights of shape (N, N).
    """
    half = round((neighbours.shape[1] - 1) / 2) + 1
    encoding = expand(reciprocal_neighbours(neighbours), reciprocal_neighbours(neighbours[:, :half]))
    lengths = np.diff(encoding.indptr)
    rows = np.repeat(np.arange(len(features)), lengths)
    for entries in row_blocks(encoding.nnz, features.shape[1], block):
        i, j = rows[entries], encoding.indices[entries]
        distance = (features[i] - features[j]).square_().sum(1) / farthest[i]
        encoding.data[entries] = torch.exp(-distance).numpy()
    encoding.data /= np.repeat(encoding.sum(1), lengths)
    return encoding


def average_neighbours(encoding: csr_array, neighbours: np.ndarray) -> csr_array:
    """Average the encodings (N, N) of each image's ``neighbours`` (N, k2)."""
    return (_indicator(neighbours) @ encoding / neighbours.shape[1]).tocsr()


def jaccard_distance(query: csr_array, gallery: csc_array) -> np.ndarray:
    """Return 1 - sum(min) / sum(max) of an encoding with others; every encoding has the sum 1.

    Args:
        query: Shape (1, N).
        gallery: Shape (G, N).

    Returns:
        Shape (G,).
    """
    # All pairs of a query entry and a gallery entry in the same column, column by column.
    starts, lengths = gallery.indptr[query.indices], np.diff(gallery.indptr)[query.indices]
    offsets = np.repeat(starts - np.cumsum(lengths) + lengths, lengths)
    entries = offsets + np.arange(len(offsets))
    smaller = np.minimum(np.repeat(query.data, lengths), gallery.data[entries])
    shared = np.bincount(gallery.indices[entries], smaller, minlength=gallery.shape[0])
    return 1 - shared / (2 - shared)
