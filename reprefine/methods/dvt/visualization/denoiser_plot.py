"""Plot of raw, target and denoised features side by side."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from .plot import fit_pca, mosaic, norm_tile, pca_tile

LABELS = ('image', 'raw: PCA', 'raw: norm', 'target: PCA', 'target: norm', 'denoised: PCA', 'denoised: norm')


class Prediction(NamedTuple):
    """Features of one image.

    Attributes:
        image: RGB, 8 bit, of any size; the tile of None is white.
        raw: Raw features, ``[rows, columns, C]``.
        target: Denoised features of stage 1, of the same shape.
        denoised: Output of the denoiser, of the same shape.
    """

    image: np.ndarray | None
    raw: np.ndarray
    target: np.ndarray
    denoised: np.ndarray


def denoiser_strip(predictions: Sequence[Prediction], height: int = 128) -> np.ndarray:
    """Plot one row of seven tiles per image; the PCA of the target also colours the denoised features.

    Args:
        predictions: Features of the images, all of one grid.
        height: Height of a tile in pixels; its width follows from the grid.

    Returns:
        RGB, 8 bit, ``[height, width, 3]``.
    """
    return mosaic([_tiles(prediction, height) for prediction in predictions], LABELS)


def _tiles(prediction: Prediction, height: int) -> list[np.ndarray]:
    rows, columns = prediction.target.shape[:2]
    size = height, round(height * columns / rows)
    basis = fit_pca(prediction.target)
    return [
        np.full((*size, 3), 255, np.uint8) if prediction.image is None else cv2.resize(prediction.image, size[::-1]),
        pca_tile(prediction.raw, size),
        norm_tile(prediction.raw, size),
        pca_tile(prediction.target, size, basis),
        norm_tile(prediction.target, size),
        pca_tile(prediction.denoised, size, basis),
        norm_tile(prediction.denoised, size),
    ]
