"""Backgrounds of the digits: clouds of colour with a grain, as photographs have them."""

import colorsys

import cv2
import numpy as np


def noise(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> np.ndarray:
    """Draw smooth noise.

    Args:
        rng: Source of the noise.
        shape: Height and width.
        cell: Size of its blobs, pixels.

    Returns:
        Float32 of the given shape, about normal with a deviation below 1.
    """
    cells = [int(side // cell) + 2 for side in shape]
    coarse = rng.standard_normal(cells, dtype=np.float32)
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)


def color(
    rng: np.random.Generator,
    value: tuple[float, float],
    hue: tuple[float, float] = (0, 1),
    saturation: tuple[float, float] = (0.3, 0.8),
) -> np.ndarray:
    """Draw a colour between bounds of its HSV components.

    Args:
        rng: Source of the colour.
        value: Bounds of the value in [0, 1].
        hue: Bounds of the hue, which has period 1.
        saturation: Bounds of the saturation in [0, 1].

    Returns:
        Red, green and blue in [0, 255], float32 of shape (3,).
    """
    hsv = [rng.uniform(*bounds) for bounds in (hue, saturation, value)]
    return np.array(colorsys.hsv_to_rgb(hsv[0] % 1, *hsv[1:]), dtype=np.float32) * 255


def texture(
    rng: np.random.Generator, shape: tuple[int, int], rgb: np.ndarray, cloud: float = 12, grain: float = 6
) -> np.ndarray:
    """Draw a background around one colour.

    Args:
        rng: Source of the noise.
        shape: Height and width.
        rgb: Mean colour in [0, 255], shape (3,).
        cloud: Strength of the clouds, which differ by channel.
        grain: Strength of the grain, the same in all channels.

    Returns:
        RGB in about [0, 255], float32 of shape (height, width, 3).
    """
    clouds = np.stack([noise(rng, shape, cell=max(shape) / 4) for _ in range(3)], axis=-1)
    fine = noise(rng, shape, cell=5) + noise(rng, shape, cell=2)
    return rgb + cloud * clouds + grain * fine[..., None]


def stripes(rng: np.random.Generator, shape: tuple[int, int], period: float) -> np.ndarray:
    """Draw soft stripes of a random direction.

    Args:
        rng: Source of direction and phase.
        shape: Height and width.
        period: Distance between two stripes, pixels.

    Returns:
        Float32 in [-1, 1] of the given shape.
    """
    angle, phase = rng.uniform(0, 2 * np.pi, 2)
    y, x = np.indices(shape, dtype=np.float32)
    return np.sin((x * np.cos(angle) + y * np.sin(angle)) * np.float32(2 * np.pi / period) + phase).astype(np.float32)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Round an image to 8 bits, values outside [0, 255] clipped."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
