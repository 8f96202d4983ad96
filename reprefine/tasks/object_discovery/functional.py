"""LOST: localisation of one object without labels from patch features (Siméoni et al., BMVC 2021).

Section 3 of the paper. As in the released code, the degree of a patch excludes the patch itself.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor


class Localization(NamedTuple):
    """Object that LOST localises in one image.

    Attributes:
        seed: Row and column of the seed patch.
        mask: The object's patches, bool of shape (h, w): the connected component of the seed.
        box: Bounding box of the mask, ``(x1, y1, x2, y2)`` in patches, the last two exclusive.
    """

    seed: tuple[int, int]
    mask: Tensor
    box: tuple[int, int, int, int]


def patch_correlations(features: Tensor) -> Tensor:
    """Return the dot products (N, N) of the patch features (N, C) with each other."""
    return features @ features.T


def degrees(correlations: Tensor) -> Tensor:
    """Return for each patch how many other patches correlate positively with it, shape (N,)."""
    positive = correlations > 0
    return positive.sum(1) - positive.diagonal().long()


def prominence_by_degree(features: Tensor) -> Tensor:
    """Return minus the degree of each patch, shape (N,): objects cover a smaller area than the background."""
    return -degrees(patch_correlations(features)).to(features.dtype)


def prominence_by_norm(features: Tensor) -> Tensor:
    """Return the norm of each patch feature (N, C), shape (N,), the criterion of DVT's paper."""
    return features.norm(dim=1)


def expand_seed(correlations: Tensor, prominence: Tensor, num_patches: int) -> tuple[int, Tensor]:
    """Return the most prominent patch and the patches similar to it.

    Args:
        correlations: Dot products of the patches, shape (N, N).
        prominence: Higher for patches that are more likely part of an object, shape (N,); ties go to the first.
        num_patches: Number k of the most prominent patches among which patches similar to the seed are chosen.

    Returns:
        Index of the seed, and indices of those of the k patches that correlate positively with it, the seed first.
    """
    order = prominence.argsort(descending=True, stable=True)
    seed, others = order[0], order[1:num_patches]
    return int(seed), torch.cat([seed[None], others[correlations[seed, others] > 0]])


def object_patches(correlations: Tensor, chosen: Tensor) -> Tensor:
    """Return which patches correlate positively with the sum of the chosen ones, bool of shape (N,)."""
    return correlations[chosen].sum(0) > 0


def connected_component(mask: Tensor, seed: tuple[int, int]) -> Tensor:
    """Return the part of a mask, bool of shape (h, w), that is connected by edges to the seed, which belongs to it."""
    mask = mask.cpu().numpy().copy()
    mask[seed] = True  # a zero feature has no positive correlation, not even with itself
    parts, _ = ndimage.label(mask)
    return torch.from_numpy(parts == parts[seed])


def bounding_box(mask: Tensor) -> tuple[int, int, int, int]:
    """Return ``(x1, y1, x2, y2)`` of the true entries of a mask (h, w), at least one; the last two are exclusive."""
    rows, columns = (np.flatnonzero(mask.cpu().numpy().any(axis)) for axis in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


PROMINENCES = {'degree': prominence_by_degree, 'norm': prominence_by_norm}


def localize(features: Tensor, prominence: str = 'degree', num_patches: int = 100) -> Localization:
    """Localise one object.

    Args:
        features: Patch features of an image, shape (C, h, w).
        prominence: ``degree``, as in LOST: the seed is the patch that correlates positively with the fewest others.
            ``norm``, as in DVT: the one whose feature has the largest norm.
        num_patches: Number k of the most prominent patches among which patches similar to the seed are chosen.
    """
    height, width = features.shape[1:]
    tokens = features.flatten(1).T.float()
    correlations = patch_correlations(tokens)
    index, chosen = expand_seed(correlations, PROMINENCES[prominence](tokens), num_patches)
    seed = divmod(index, width)
    mask = connected_component(object_patches(correlations, chosen).view(height, width), seed)
    return Localization(seed, mask, bounding_box(mask))
