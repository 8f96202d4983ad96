"""Training, validation and test split of CelebAMask-HQ."""

import warnings
from collections.abc import Collection, Mapping

import numpy as np

# Sizes that the authors of the dataset publish for the 30,000 faces.
SIZES = {'train': 24_183, 'val': 2_993, 'test': 2_824}
# CelebA's own validation and test images begin at these numbers.
FIRST_VAL, FIRST_TEST = 162_771, 182_638

Splits = dict[str, list[int]]


def split_by_origin(origins: Mapping[int, int]) -> Splits:
    """Give each face to the split that its CelebA image belongs to: the rule of the dataset's authors.

    Args:
        origins: Number of the CelebA image of each face, by the face's id.

    Returns:
        Ids of each split, in ascending order.
    """
    faces = sorted(origins)
    split = np.searchsorted([FIRST_VAL, FIRST_TEST], [origins[face] for face in faces], side='right')
    return {name: [face for face, k in zip(faces, split, strict=True) if k == i] for i, name in enumerate(SIZES)}


def split_randomly(faces: Collection[int], seed: int) -> Splits:
    """Shuffle the faces and divide them in the proportions of ``SIZES``.

    Args:
        faces: Ids.
        seed: Seed of the shuffle.

    Returns:
        Ids of each split, in ascending order.
    """
    shuffled = np.random.default_rng(seed).permutation(sorted(faces))
    ends = np.rint(np.cumsum(list(SIZES.values())) * len(faces) / sum(SIZES.values())).astype(int)
    return {name: sorted(ids.tolist()) for name, ids in zip(SIZES, np.split(shuffled, ends[:-1]), strict=True)}


def warn_if_sizes_differ(splits: Splits) -> None:
    """Warn if the splits of the complete dataset do not have the published sizes."""
    sizes = {name: len(ids) for name, ids in splits.items()}
    if sizes != SIZES:
        warnings.warn(f'the splits hold {sizes} faces instead of the published {SIZES}', stacklevel=2)
