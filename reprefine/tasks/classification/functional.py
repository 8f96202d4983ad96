"""Nearest-neighbour classification."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Neighbors(NamedTuple):
    """Nearest labelled vectors of each query.

    Attributes:
        similarity: Cosine similarity in descending order ``[Q, k]``; ``-inf`` if there are fewer than ``k``.
        labels: Classes of the neighbours ``[Q, k]``.
    """

    similarity: Tensor
    labels: Tensor


def nearest_neighbors(query: Tensor, bank: Tensor, labels: Tensor, k: int, chunk: int = 1024) -> Neighbors:
    """Return the ``k`` most similar vectors of each query, or all if there are fewer.

    Args:
        query: L2-normalised vectors ``[Q, D]``.
        bank: L2-normalised labelled vectors ``[N, D]``.
        labels: Classes of the bank ``[N]``.
        k: Number of neighbours.
        chunk: Queries in one comparison, which bounds the memory to ``chunk * N`` values.
    """
    parts = [(part @ bank.T).topk(min(k, len(bank)), dim=1) for part in query.split(chunk)]
    similarity, indices = (torch.cat(columns) for columns in zip(*parts, strict=True))
    return Neighbors(similarity, labels[indices])


def merge_neighbors(parts: Sequence[Neighbors], k: int) -> Neighbors:
    """Return the ``k`` nearest neighbours among those found in several parts of the bank."""
    similarity, labels = (torch.cat(columns, dim=1) for columns in zip(*parts, strict=True))
    similarity, indices = similarity.topk(min(k, similarity.shape[1]), dim=1)
    return Neighbors(similarity, labels.gather(1, indices))


def knn_votes(neighbors: Neighbors, classes: int, temperature: float) -> Tensor:
    """Return the votes ``[Q, C]`` of the neighbours, with weights ``exp(similarity / temperature)``.

    Args:
        neighbors: The neighbours of each query.
        classes: Number of classes ``C``.
        temperature: Temperature of the weights.
    """
    similarity, labels = neighbors
    # Relative to the nearest neighbour, so that exp does not overflow; the order of the classes is unchanged.
    weights = ((similarity - similarity[:, :1]) / temperature).exp()
    return similarity.new_zeros(len(similarity), classes).scatter_add_(1, labels, weights)


def knn_top1(neighbors: Neighbors, truth: Tensor, temperature: float) -> float:
    """Return the top-1 accuracy of the nearest-neighbour classifier in percent.

    Args:
        neighbors: The neighbours of each query.
        truth: Classes of the queries ``[Q]``.
        temperature: Temperature of the weights.
    """
    classes = int(max(neighbors.labels.max(), truth.max())) + 1
    hits = knn_votes(neighbors, classes, temperature).argmax(1) == truth
    return 100 * int(hits.sum()) / len(truth)
