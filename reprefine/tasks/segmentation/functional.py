"""Segmentation by nearest neighbours among labelled features of training images."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class LabelledFeatures(NamedTuple):
    """Entries of a memory bank.

    Attributes:
        features: Shape (M, C).
        shares: Share of each class in each entry, shape (M, num_classes); each row sums to 1.
    """

    features: Tensor
    shares: Tensor


def class_shares(labels: Tensor, num_classes: int, grid: tuple[int, int]) -> Tensor:
    """Return the share of each class among the pixels of each patch, shape (num_classes, h, w).

    Args:
        labels: Class of each pixel, shape (H, W). Other values, such as 255, are ignored.
        num_classes: Number of classes.
        grid: Number of rows h and columns w of patches.
    """
    known = labels < num_classes
    pixels = F.one_hot(labels.long() * known, num_classes).permute(2, 0, 1) * known
    return F.adaptive_avg_pool2d(pixels.float(), grid)


def class_centroids(features: Tensor, shares: Tensor) -> LabelledFeatures:
    """Return the mean feature of each class in an image, weighted by the shares of the patches.

    Args:
        features: Feature map, shape (C, h, w).
        shares: Result of :func:`class_shares`, shape (num_classes, h, w).
    """
    present = shares.flatten(1).sum(1).nonzero()[:, 0]
    weights = F.normalize(shares.flatten(1)[present], p=1, dim=1)
    one_hot = F.one_hot(present, len(shares)).to(features)
    return LabelledFeatures(weights.to(features) @ features.flatten(1).T, one_hot)


def labelled_patches(features: Tensor, shares: Tensor) -> LabelledFeatures:
    """Return the features of all patches with labelled pixels, and the class shares among the labelled pixels.

    Args:
        features: Feature map, shape (C, h, w).
        shares: Result of :func:`class_shares`, shape (num_classes, h, w).
    """
    rows = shares.flatten(1).T
    labelled = rows.sum(1) > 0
    return LabelledFeatures(features.flatten(1).T[labelled], F.normalize(rows[labelled], p=1, dim=1).to(features))


def nearest_entries(queries: Tensor, keys: Tensor, num_neighbors: int, chunk_size: int) -> tuple[Tensor, Tensor]:
    """Return cosine similarity and index of the nearest keys of each query, both (N, k) with k <= ``num_neighbors``.

    Args:
        queries: Shape (N, C).
        keys: Shape (M, C).
        num_neighbors: Number of neighbours; all keys if there are fewer.
        chunk_size: Number of keys compared at once, which limits the memory.
    """
    queries = F.normalize(queries, dim=1)
    best = queries.new_empty(len(queries), 0)
    indices = best.long()
    for start in range(0, len(keys), chunk_size):
        chunk = F.normalize(keys[start : start + chunk_size], dim=1)
        numbers = torch.arange(start, start + len(chunk), device=keys.device).expand(len(queries), -1)
        similarities = torch.cat([best, queries @ chunk.T], 1)
        best, order = similarities.topk(min(num_neighbors, similarities.shape[1]), dim=1)
        indices = torch.cat([indices, numbers], 1).gather(1, order)
    return best, indices


def neighbor_weights(similarities: Tensor, temperature: float | None) -> Tensor:
    """Return the weights of the neighbours' votes, shape (N, k); each row sums to 1.

    Args:
        similarities: Cosine similarities, shape (N, k).
        temperature: The weights are the softmax of similarity / temperature; None for equal weights.
    """
    if temperature is None:
        return torch.full_like(similarities, 1 / similarities.shape[1])
    return (similarities / temperature).softmax(1)


def vote(
    queries: Tensor, bank: LabelledFeatures, num_neighbors: int, temperature: float | None, chunk_size: int
) -> Tensor:
    """Return the votes of the nearest entries for each class, shape (N, num_classes); each row sums to 1.

    Args:
        queries: Features, shape (N, C).
        bank: Entries of the memory bank.
        num_neighbors: See :func:`nearest_entries`.
        temperature: See :func:`neighbor_weights`.
        chunk_size: See :func:`nearest_entries`.
    """
    similarities, indices = nearest_entries(queries, bank.features, num_neighbors, chunk_size)
    weights = neighbor_weights(similarities, temperature)
    return torch.einsum('nk,nkc->nc', weights, bank.shares[indices])
