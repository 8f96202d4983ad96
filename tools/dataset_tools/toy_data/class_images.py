"""Images of one digit each, for classification."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from toy_data.digits import digit_matte
from toy_data.scenes import Scene, paint
from toy_data.textures import color, noise, stripes, texture, to_uint8

KINDS = 20
WARM, COOL = (-0.06, 0.14), (0.45, 0.7)
Bounds = tuple[float, float]


class Style(NamedTuple):
    """Bounds of value and hue of background and digit, and the pattern of the background."""

    background: tuple[Bounds, Bounds]
    digit: tuple[Bounds, Bounds]
    pattern: Callable[[np.random.Generator, tuple[int, int], float], np.ndarray]


STYLES = (
    Style(background=((0.15, 0.35), COOL), digit=((0.85, 1), WARM), pattern=noise),
    Style(background=((0.75, 0.9), WARM), digit=((0.05, 0.3), COOL), pattern=stripes),
)


def draw_class_image(rng: np.random.Generator, kind: int, shape: tuple[int, int]) -> Scene:
    """Draw an image of a kind: a digit, large and anywhere, in one of two styles.

    Args:
        rng: Source of digit, position, colours and background.
        kind: ``kind % 10`` is the digit. Below 10 it is bright and warm on dark cool clouds, from 10 on dark and cool
            on bright warm stripes.
        shape: Height and width, at least 24 pixels each.

    Returns:
        A scene of one object.
    """
    style, digit = STYLES[kind // 10], kind % 10
    background = texture(rng, shape, color(rng, *style.background))
    background += 18 * style.pattern(rng, shape, min(shape) / rng.uniform(3, 5))[..., None]
    matte = digit_matte(rng, digit, int(min(shape) * rng.uniform(0.7, 0.9)))
    top, left = (int(rng.integers(side - part, endpoint=True)) for side, part in zip(shape, matte.shape, strict=True))
    mask = paint(background, matte, color(rng, *style.digit), top, left)
    return Scene(to_uint8(background), np.array([digit]), mask[None])
