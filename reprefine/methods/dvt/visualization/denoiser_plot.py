"""The picture of a denoiser in training: raw, target and predicted features side by side."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from .plot import fit_pca, mosaic, norm_tile, pca_tile

LABELS = ('image', 'raw: PCA', 'raw: norm', 'target: PCA', 'target: norm', 'denoised: PCA', 'denoised: norm')


class Prediction(NamedTuple):
    """What is drawn of one image.

    Attributes:
        image: RGB, 8 bit, of any size; None leaves its place white.
        raw: Raw features, ``[rows, columns, C]``.
        target: What denoising this image on its own gave, of the same shape.
        denoised: What the denoiser gives.
    """

    image: np.ndarray | None
    raw: np.ndarray
    target: np.ndarray
    denoised: np.ndarray


def denoiser_strip(predictions: Sequence[Prediction], height: int = 128) -> np.ndarray:
    """Draw one row of seven tiles for each image, as RGB; prediction and target have the target's colours.

    Args:
        predictions: The images, on one grid.
        height: Height of a tile in pixels; widths follow from the grid.
    """
    return mosaic([_tiles(one, height) for one in predictions], LABELS)


def _tiles(one: Prediction, height: int) -> list[np.ndarray]:
    rows, columns = one.target.shape[:2]
    size = height, round(height * columns / rows)
    basis = fit_pca(one.target)
    return [
        np.full((*size, 3), 255, np.uint8) if one.image is None else cv2.resize(one.image, size[::-1]),
        pca_tile(one.raw, size),
        norm_tile(one.raw, size),
        pca_tile(one.target, size, basis),
        norm_tile(one.target, size),
        pca_tile(one.denoised, size, basis),
        norm_tile(one.denoised, size),
    ]
