"""Retrieval metrics as pure functions.

A gallery image is a match of a query if it shows the same identity from another camera. Images of the same identity
and camera are excluded from the query's ranking, and queries without a match from the means.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

# Elements of a block of distances: 64 MiB in single precision, for a gallery of any size.
BLOCK = 2**24


@dataclass(frozen=True)
class Tags:
    """Identities and cameras of N images.

    Attributes:
        pid: Identities, shape (N,).
        camera: Cameras, shape (N,).
    """

    pid: np.ndarray
    camera: np.ndarray

    def __getitem__(self, mask: np.ndarray | slice) -> 'Tags':
        """Select images."""
        return Tags(self.pid[mask], self.camera[mask])


def squared_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the squared Euclidean distance of each row of ``a`` (M, D) to each row of ``b`` (N, D), shape (M, N)."""
    return torch.addmm(b.square().sum(1), a, b.T, alpha=-2).add_(a.square().sum(1)[:, None]).clamp_(min=0)


def center(features: torch.Tensor, mean: torch.Tensor | None = None) -> torch.Tensor:
    """Return features (N, D) minus their mean, or minus a given mean of shape (D,).

    Distances do not change, but ``|a|^2 + |b|^2 - 2ab`` is less accurate if all features share a large mean.
    """
    return features - (features.mean(0) if mean is None else mean)


def row_blocks(rows: int, columns: int, block: int = BLOCK) -> list[slice]:
    """Split the rows of a matrix into slices of at most ``block`` elements each, or of one row if it has more."""
    size = max(1, block // columns)
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


def distance_blocks(queries: torch.Tensor, gallery: torch.Tensor, block: int = BLOCK) -> Iterator[np.ndarray]:
    """Yield blocks of rows of squared Euclidean distances minus a constant per query, which keeps the ranking.

    Args:
        queries: Features, shape (Q, D).
        gallery: Features, shape (G, D).
        block: Maximum number of elements of a block, unless one row has more.
    """
    mean = gallery.mean(0)
    gallery = center(gallery, mean)
    squared_norm = gallery.square().sum(1)
    for rows in row_blocks(len(queries), len(gallery), block):
        yield torch.addmm(squared_norm, center(queries[rows], mean), gallery.T, alpha=-2).numpy()


def match_ranks(distances: Iterable[np.ndarray], queries: Tags, gallery: Tags) -> list[np.ndarray]:
    """Rank the matches of each query.

    Counts the images before each match, one pass over the row per match, which is faster than sorting all images. Of
    images at the same distance, the one with the lower gallery index comes first.

    Args:
        distances: Blocks of rows, together of shape (Q, G), smaller is nearer; modified in place.
        queries: Tags of the Q queries.
        gallery: Tags of the G gallery images.

    Returns:
        For each query the ranks of its matches, from 1, ascending.
    """
    order = np.argsort(gallery.pid, kind='stable')
    pids = gallery.pid[order]
    bounds = zip(np.searchsorted(pids, queries.pid), np.searchsorted(pids, queries.pid, 'right'), strict=True)
    rows = (row for block in distances for row in block)
    ranks = []
    for row, (start, stop), camera in zip(rows, bounds, queries.camera, strict=True):
        same_id = order[start:stop]
        same_camera = gallery.camera[same_id] == camera
        row[same_id[same_camera]] = np.inf
        ranks.append(_ranks_in_row(row, same_id[~same_camera]))
    return ranks


def _ranks_in_row(row: np.ndarray, matches: np.ndarray) -> np.ndarray:
    """Return the sorted ranks of the columns ``matches`` of a row of distances."""
    count = np.count_nonzero
    return np.sort([1 + count(row[:j] <= row[j]) + count(row[j:] < row[j]) for j in matches])


def retrieval_metrics(ranks: list[np.ndarray], topk: Iterable[int] = (1, 5, 10)) -> dict[str, float]:
    """Compute retrieval metrics from the ranks of the matches.

    Args:
        ranks: For each query the ranks of its matches, from 1, ascending. Queries without a match are skipped; at least
            one query has a match.
        topk: Ranks k of the cumulative matching characteristic (CMC).

    Returns:
        Percentages: ``mAP``; ``mINP``, the mean inverse negative penalty (matches / rank of the last one); and
        ``CMC-k``, the share of queries with a match among the first k.
    """
    ranks = [query_ranks for query_ranks in ranks if len(query_ranks)]
    sizes = np.array([len(query_ranks) for query_ranks in ranks])
    flat, starts = np.concatenate(ranks), np.cumsum(sizes) - sizes
    matches_so_far = np.arange(len(flat)) - np.repeat(starts, sizes) + 1
    precision = np.add.reduceat(matches_so_far / flat, starts) / sizes
    first, last = flat[starts], flat[starts + sizes - 1]
    values = dict(mAP=precision, mINP=sizes / last) | {f'CMC-{k}': first <= k for k in topk}
    return {name: 100 * float(np.mean(value)) for name, value in values.items()}


def nearest(distance: np.ndarray, query: Tags, gallery: Tags, topk: int) -> np.ndarray:
    """Return the nearest gallery images of one query, excluding those of its identity and camera.

    Args:
        distance: Distance to each gallery image, shape (G,).
        query: Tags of the query, scalars.
        gallery: Tags of the gallery, arrays of shape (G,).
        topk: Number of images.

    Returns:
        At most ``topk`` indices, the nearest first.
    """
    allowed = np.flatnonzero((gallery.pid != query.pid) | (gallery.camera != query.camera))
    return allowed[np.argsort(distance[allowed], kind='stable')[:topk]]
