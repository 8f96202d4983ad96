"""The digits of scikit-learn and MNIST-5k as tensors, for experiments in plain PyTorch."""

from typing import NamedTuple

import torch
from torch import Tensor

from reprefine.tasks.classification.datasets.digits import SOURCES, draw_per_class, split_mask


class Images(NamedTuple):
    """Images as grey levels 0 to 255, float32 ``[N, 1, H, W]``, and labels ``[N]``."""

    pixels: Tensor
    labels: Tensor

    def subset(self, per_class: int, seed: int) -> 'Images':
        """Return a random subset with the same number of images of each class."""
        chosen = draw_per_class(self.labels.tolist(), per_class, seed)
        return Images(self.pixels[chosen], self.labels[chosen])


def load_images(source: str, split: str) -> Images:
    """Return the split ``train``, ``val`` or ``test`` of ``digits`` or ``mnist5k``."""
    pixels, labels = SOURCES[source]()
    mask = split_mask(labels, split)
    return Images(torch.from_numpy(pixels[mask]).float()[:, None], torch.from_numpy(labels[mask]).long())
