"""Features of test images, stored for metrics and figures."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from reprefine.engine.files import atomic_write

from .functional import Tags


@dataclass(frozen=True)
class Predictions:
    """Features and annotations of N test images.

    Attributes:
        feature: Shape (N, D), single precision.
        tags: Identities and cameras.
        is_query: Boolean mask of the queries, shape (N,); the others are the gallery.
        img_path: Image files, shape (N,).
    """

    feature: torch.Tensor
    tags: Tags
    is_query: np.ndarray
    img_path: np.ndarray

    def save(self, file: str | Path) -> None:
        """Write the predictions to a file.

        Args:
            file: ``.npz`` file; missing parent folders are created.
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
        """Read a file written by :meth:`save`.

        Args:
            file: The file.
        """
        with np.load(file, allow_pickle=False) as arrays:
            tags = Tags(arrays['pid'], arrays['camera'])
            return cls(torch.from_numpy(arrays['feature']), tags, arrays['is_query'], arrays['img_path'])
