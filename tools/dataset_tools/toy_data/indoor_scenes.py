"""Indoor scenes: rooms with digits on the floor, and the depth of every pixel."""

from typing import NamedTuple

import numpy as np

from toy_data.digits import digit_matte
from toy_data.scenes import paint
from toy_data.textures import color, texture, to_uint8

SHAPE = (480, 640)
# Row and column the camera looks at.
CENTER = (np.array(SHAPE) - 1) / 2
# Of the NYU camera, pixels.
FOCAL = 518.8579
# Height of the camera above the floor and below the ceiling, metres.
FLOOR, CEILING = 1.3, 1.2
# Least distance of a digit, metres.
NEAREST = 2


class IndoorScene(NamedTuple):
    """An image and its depth.

    Attributes:
        image: RGB, uint8 of shape (480, 640, 3).
        depth: Distance along the camera's axis in metres, float of shape (480, 640).
    """

    image: np.ndarray
    depth: np.ndarray


def draw_indoor_scene(rng: np.random.Generator) -> IndoorScene:
    """Draw a room along its axis, lit from the camera: what is farther is darker, smaller and nearer the horizon.

    Args:
        rng: Source of all content.

    Returns:
        The scene; its depth lies between 2 and 8 metres.
    """
    left, right, back = rng.uniform(1.5, 3), rng.uniform(1.5, 3), rng.uniform(4, 8)
    planes = _plane_depths(left, right, back)
    depth, nearest = planes.min(0), planes.argmin(0)
    image = np.empty((*SHAPE, 3), np.float32)
    for index in range(len(planes)):
        surface = texture(rng, SHAPE, color(rng, (0.8, 0.95), saturation=(0.1, 0.4)), cloud=8, grain=4)
        image[nearest == index] = surface[nearest == index]
    image *= _light(depth)[..., None]
    # From far to near, so that the nearer digit covers the farther one.
    for distance in sorted(rng.uniform(NEAREST, back - 0.3, size=rng.integers(3, 7)), reverse=True):
        walls = CENTER[1] + np.array((-left, right)) * FOCAL / distance
        mask = _add_digit(rng, image, distance, walls)
        depth[mask] = distance
    return IndoorScene(to_uint8(image), depth)


def _plane_depths(left: float, right: float, back: float) -> np.ndarray:
    """Return the depth at which each pixel's ray meets floor, ceiling, walls and back, infinite where it never does.

    Args:
        left: Distance of the camera to the left wall, metres.
        right: To the right wall.
        back: To the wall ahead.

    Returns:
        Metres, float of shape (5, H, W).
    """
    v, u = np.indices(SHAPE) - CENTER.reshape(2, 1, 1)
    slopes = np.stack([v / FLOOR, -v / CEILING, -u / left, u / right, np.full(SHAPE, FOCAL / back)])
    return FOCAL / np.maximum(slopes, 1e-9)


def _light(depth: np.ndarray | float) -> np.ndarray:
    return 1 / (1 + (np.asarray(depth, np.float32) / 6) ** 2)


def _add_digit(rng: np.random.Generator, image: np.ndarray, distance: float, walls: np.ndarray) -> np.ndarray:
    """Draw a digit of about a metre on the floor, between the columns of the walls; return its mask."""
    matte = digit_matte(rng, int(rng.integers(10)), int(FOCAL * rng.uniform(0.8, 1.1) / distance))
    height, width = matte.shape
    top = int(CENTER[0] + FOCAL * FLOOR / distance) - height
    first, last = np.clip(walls, 0, SHAPE[1]).astype(int)
    rgb = color(rng, (0.8, 1), saturation=(0.7, 1)) * _light(distance)
    return paint(image, matte[: SHAPE[0] - top], rgb, top, int(rng.integers(first, last - width, endpoint=True)))
