"""Features of test images, as they are kept for metrics and pictures."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from reprefine.engine.files import atomic_write

from .functional import Tags


@dataclass(frozen=True)
class Predictions:
    """Features of N test images and what is known about them.

    Attributes:
        feature: Shape (N, D), single precision.
        tags: Identities and cameras.
        is_query: Boolean mask of the queries, shape (N,); the others are the gallery.
        img_path: Files, shape (N,).
    """

    feature: torch.Tensor
    tags: Tags
    is_query: np.ndarray
    img_path: np.ndarray

    def save(self, file: str | Path) -> None:
        """Write them to a file.

        Args:
            file: An ``.npz`` file; its folder is made.
        """
        with atomic_write(file) as partial:
            np.savez(
                partial,
                feature=self.feature.numpy(),
                pid=self.tags.pid,
                camera=self.tags.camera,
                is_query=self.is_query,
                img_path=self.img_path,
            )

    @classmethod
    def load(cls, file: str | Path) -> 'Predictions':
        """Read what :meth:`save` wrote.

        Args:
            file: The file.
        """
        with np.load(file, allow_pickle=False) as held:
            tags = Tags(held['pid'], held['camera'])
            return cls(torch.from_numpy(held['feature']), tags, held['is_query'], held['img_path'])
