"""Long-tailed subsets of an image list: class sizes decrease exponentially."""

import numpy as np

from reprefine.engine.errors import UserError

from ..image_lists import Samples, class_counts


def exponential_counts(available: np.ndarray, imbalance: float) -> np.ndarray:
    """Return how many images each class keeps.

    The class of rank ``r`` among ``C`` keeps ``max(available) * imbalance ** (-r / (C - 1))`` images, rounded, at
    least one and at most all of them.

    Args:
        available: Number of images of each class, by rank, each at least 1; shape (C,).
        imbalance: Ratio of the largest to the smallest class, at least 1.
    """
    rank = np.linspace(0, 1, len(available))
    wanted = np.rint(available.max() * imbalance**-rank).astype(int)
    return np.minimum(np.maximum(wanted, 1), available)


def long_tail(samples: Samples, imbalance: float, rng: np.random.Generator) -> list[tuple[str, int]]:
    """Return a long-tailed subset of a list in the order of the list; ranks of classes and images are random.

    Args:
        samples: Path and label of each image.
        imbalance: Ratio of the largest to the smallest class.
        rng: Source of the random numbers.

    Raises:
        UserError: The ratio is below 1, or the list has only one class.
    """
    if imbalance < 1:
        raise UserError(f'imbalance {imbalance}: give the ratio of the largest to the smallest class, 1 or more')
    counts = class_counts(samples)
    ranked = rng.permutation(np.flatnonzero(counts))
    if len(ranked) < 2:
        raise UserError(f'a long-tailed list needs two classes or more, found {len(ranked)}')
    labels = np.array([label for _, label in samples])
    kept = [
        rng.choice(np.flatnonzero(labels == label), count, replace=False)
        for label, count in zip(ranked, exponential_counts(counts[ranked], imbalance), strict=True)
    ]
    return [samples[index] for index in np.sort(np.concatenate(kept))]
