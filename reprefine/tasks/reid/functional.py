"""Retrieval metrics as pure functions.

A gallery image counts as a match of a query if it shows the same identity from another camera. Images of the same
identity and camera are left out of the query's ranking, and queries without a match are left out of the means.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

# Elements of a block of distances: 64 MiB in single precision, whatever the gallery.
BLOCK = 2**24


@dataclass(frozen=True)
class Tags:
    """What is known about N images.

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


def centred(features: torch.Tensor, mean: torch.Tensor | None = None) -> torch.Tensor:
    """Return features (N, D) less their mean, or less another one of shape (D,).

    Distances do not change, but ``|a|^2 + |b|^2 - 2ab`` loses the digits that a mean common to all features takes.
    """
    return features - (features.mean(0) if mean is None else mean)


def row_blocks(rows: int, columns: int, block: int = BLOCK) -> list[slice]:
    """Split the rows of a matrix so that a part has at most ``block`` elements, unless one row has more."""
    size = max(1, block // columns)
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


def blocks_of_distance(queries: torch.Tensor, gallery: torch.Tensor, block: int = BLOCK) -> Iterator[np.ndarray]:
    """Yield squared Euclidean distances less a constant of the query, which order the gallery alike, in blocks of rows.

    Args:
        queries: Features, shape (Q, D).
        gallery: Features, shape (G, D).
        block: Elements of a yielded array, unless one row has more.
    """
    mean = gallery.mean(0)
    gallery = centred(gallery, mean)
    squared_norm = gallery.square().sum(1)
    for part in row_blocks(len(queries), len(gallery), block):
        yield torch.addmm(squared_norm, centred(queries[part], mean), gallery.T, alpha=-2).numpy()


def match_ranks(distances: Iterable[np.ndarray], queries: Tags, gallery: Tags) -> list[np.ndarray]:
    """Rank the matches of each query.

    Sorting would spend most of its time on images that match nothing. Instead the images before each match are counted,
    one pass over the row for each; of images at the same distance, the one with the lower gallery index comes first.

    Args:
        distances: Blocks of rows, together of shape (Q, G), smaller is nearer. They are overwritten.
        queries: Tags of the Q queries.
        gallery: Tags of the G gallery images.

    Returns:
        For each query the ascending ranks of its matches, from 1.
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
    """Compute the metrics of a retrieval from the ranks of the matches.

    Args:
        ranks: For each query the ascending ranks of its matches, from 1. Queries without a match are left out; at least
            one query has one.
        topk: Ranks at which the cumulative matching characteristic is read off.

    Returns:
        Percentages: ``mAP``; ``mINP``, the mean inverse negative penalty (matches / rank of the last one); and
        ``CMC-k``, the share of queries with a match among the first k.
    """
    ranks = [of_query for of_query in ranks if len(of_query)]
    sizes = np.array([len(of_query) for of_query in ranks])
    flat, starts = np.concatenate(ranks), np.cumsum(sizes) - sizes
    matches_so_far = np.arange(len(flat)) - np.repeat(starts, sizes) + 1
    precision = np.add.reduceat(matches_so_far / flat, starts) / sizes
    first, last = flat[starts], flat[starts + sizes - 1]
    values = dict(mAP=precision, mINP=sizes / last) | {f'CMC-{k}': first <= k for k in topk}
    return {name: 100 * float(np.mean(value)) for name, value in values.items()}


def nearest(distance: np.ndarray, query: Tags, gallery: Tags, topk: int) -> np.ndarray:
    """Return the nearest gallery images of one query, without those of its identity and camera.

    Args:
        distance: To each gallery image, shape (G,).
        query: Tags of the query, scalars.
        gallery: Tags of the gallery, arrays of shape (G,).
        topk: Number of images.

    Returns:
        At most ``topk`` indices, the nearest first.
    """
    allowed = np.flatnonzero((gallery.pid != query.pid) | (gallery.camera != query.camera))
    return allowed[np.argsort(distance[allowed], kind='stable')[:topk]]
