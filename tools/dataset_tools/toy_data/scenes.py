"""Scenes of digits with what the benchmarks annotate: classes, boxes and masks."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from toy_data.digits import digit_matte
from toy_data.textures import color, texture, to_uint8

# Free pixels around every digit, and how many positions are tried.
MARGIN, TRIES = 3, 30


class Scene(NamedTuple):
    """An image and its objects.

    Attributes:
        image: RGB, uint8 of shape (H, W, 3).
        labels: Digits 0 to 9, shape (N,).
        masks: Pixels of each digit, bool of shape (N, H, W); they are disjoint.
    """

    image: np.ndarray
    labels: np.ndarray
    masks: np.ndarray

    @property
    def boxes(self) -> np.ndarray:
        """Tight boxes x1, y1, x2, y2 in pixel edges, so that x2 - x1 is the width; int of shape (N, 4)."""
        return np.array([mask_box(mask) for mask in self.masks], dtype=int).reshape(-1, 4)


def mask_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return the tight box of a mask.

    Args:
        mask: Bool of shape (H, W), not empty.

    Returns:
        Edges x1, y1, x2, y2; the last column inside is x2 - 1.
    """
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def paint(image: np.ndarray, matte: np.ndarray, rgb: np.ndarray, top: int, left: int) -> np.ndarray:
    """Lay a coloured shape over an image.

    Args:
        image: Float of shape (H, W, 3), changed in position.
        matte: Opacity in [0, 1] of shape (h, w).
        rgb: Colour, shape (3,).
        top: Row of the shape's first row; it must lie inside the image as a whole.
        left: Column of its first column.

    Returns:
        Mask of the shape, bool of shape (H, W).
    """
    window = (slice(top, top + matte.shape[0]), slice(left, left + matte.shape[1]))
    image[window] += matte[..., None] * (rgb - image[window])
    mask = np.zeros(image.shape[:2], bool)
    mask[window] = matte > 0.5
    return mask


def draw_background(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Draw a background, either dark or bright.

    Args:
        rng: Source of the background.
        shape: Height and width.

    Returns:
        RGB, float32 of shape (height, width, 3).
    """
    value = (0.1, 0.35) if rng.random() < 0.5 else (0.75, 0.95)
    return texture(rng, shape, color(rng, value, saturation=(0.1, 0.5)))


def draw_scene(
    rng: np.random.Generator, labels: Sequence[int], sizes: tuple[int, int], background: np.ndarray
) -> Scene:
    """Scatter digits over a background; one that finds no free position is left out.

    Args:
        rng: Source of shapes, positions and colours.
        labels: Digits to draw.
        sizes: Least and greatest longer side of a digit, pixels.
        background: RGB, float of shape (H, W, 3).

    Returns:
        The scene. Its digits do not touch each other.
    """
    image = background.copy()
    taken = np.zeros(image.shape[:2], bool)
    drawn, masks = [], []
    for label in labels:
        matte = digit_matte(rng, label, int(rng.integers(sizes[0], sizes[1], endpoint=True)))
        position = _free_position(rng, taken, matte.shape)
        if position:
            masks.append(paint(image, matte, _contrast(rng, image, position, matte.shape), *position))
            taken |= masks[-1]
            drawn.append(label)
    masks = np.array(masks, bool).reshape(-1, *image.shape[:2])
    return Scene(to_uint8(image), np.array(drawn, int), masks)


def _free_position(rng: np.random.Generator, taken: np.ndarray, shape: tuple[int, int]) -> tuple[int, int] | None:
    free = [whole - side for whole, side in zip(taken.shape, shape, strict=True)]
    for _ in range(TRIES if min(free) >= 0 else 0):
        top, left = (int(rng.integers(side, endpoint=True)) for side in free)
        around = np.s_[max(top - MARGIN, 0) : top + shape[0] + MARGIN, max(left - MARGIN, 0) : left + shape[1] + MARGIN]
        if not taken[around].any():
            return top, left
    return None


def _contrast(
    rng: np.random.Generator, image: np.ndarray, position: tuple[int, int], shape: tuple[int, int]
) -> np.ndarray:
    """Draw a bright colour where the image is dark and a dark one where it is bright."""
    top, left = position
    dark = image[top : top + shape[0], left : left + shape[1]].mean() < 127
    return color(rng, (0.85, 1) if dark else (0.05, 0.35))
