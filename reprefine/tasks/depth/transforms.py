"""Transforms of images with depth maps that mmseg lacks."""

import numpy as np
from mmcv.transforms import BaseTransform

from reprefine.engine.errors import UserError
from reprefine.registry import TRANSFORMS


def change_colour(image: np.ndarray, gamma: float, brightness: float, channels: np.ndarray) -> np.ndarray:
    """Return ``image ** gamma * brightness * channels``, clipped to 0..255.

    Args:
        image: Values in 0..255, shape (H, W, C).
        gamma: Exponent of the values.
        brightness: Factor of all channels.
        channels: Factor of each channel, shape (C,).

    Returns:
        float32 image.
    """
    changed = image.astype(np.float32) ** gamma * (brightness * np.asarray(channels))
    return changed.clip(0, 255).astype(np.float32)


@TRANSFORMS.register_module()
class RandomColour(BaseTransform):
    """Random gamma, brightness and colour balance of ``img``.

    Args:
        prob: Probability of applying the transform.
        gamma: Range of the exponent.
        brightness: Range of the factor of all channels.
        channel: Range of the factor of each channel.
    """

    def __init__(
        self,
        prob: float = 0.5,
        gamma: tuple[float, float] = (0.9, 1.1),
        brightness: tuple[float, float] = (0.75, 1.25),
        channel: tuple[float, float] = (0.9, 1.1),
    ):
        self.prob = prob
        self.gamma = gamma
        self.brightness = brightness
        self.channel = channel

    def transform(self, results: dict) -> dict:
        """Change ``img`` with probability ``prob``."""
        if np.random.rand() < self.prob:
            image = results['img']
            balance = np.random.uniform(*self.channel, size=image.shape[-1])
            results['img'] = change_colour(
                image, np.random.uniform(*self.gamma), np.random.uniform(*self.brightness), balance
            )
        return results


@TRANSFORMS.register_module()
class FixedCrop(BaseTransform):
    """Crop ``img`` and every map of ``seg_fields`` to a fixed window.

    Args:
        rows: First row and the one after the last.
        columns: First column and the one after the last.

    Raises:
        UserError: If an image is smaller than the window.
    """

    def __init__(self, rows: tuple[int, int], columns: tuple[int, int]):
        self.rows = rows
        self.columns = columns

    def transform(self, results: dict) -> dict:
        """Crop the image and its maps."""
        height, width = results['img'].shape[:2]
        if height < self.rows[1] or width < self.columns[1]:
            raise UserError(
                f'FixedCrop: image {results.get("img_path", "")} has {height}x{width} pixels, smaller than rows '
                f'{self.rows} and columns {self.columns}: give a smaller window'
            )
        for key in ('img', *results.get('seg_fields', ())):
            results[key] = results[key][slice(*self.rows), slice(*self.columns)]
        results['img_shape'] = results['img'].shape[:2]
        return results
