"""Photos: a person as a camera sees it."""

import cv2
import numpy as np

from toy_data.outlines import inside

from .camera import Camera
from .figure import body_parts
from .identity import Person

_OVERSAMPLING = 2


def render_person(
    person: Person, camera: Camera, rng: np.random.Generator, size: tuple[int, int] = (64, 128), jitter: float = 0.03
) -> np.ndarray:
    """Draw one photo of a person.

    Args:
        person: Who is seen.
        camera: Who sees it.
        rng: Draws the step, the stretch of background, the crop and the noise.
        size: Width and height in pixels.
        jitter: Standard deviation of the crop's offset and size, relative to the image height.

    Returns:
        RGB image, uint8 [height, width, 3].
    """
    view = camera.draw_view(rng)
    width, height = np.array(size) * _OVERSAMPLING
    canvas = cv2.resize(camera.background(rng, size), (int(width), int(height)))
    scale = height * person.height * (1 + rng.normal(0, jitter))
    left, top = width / 2 + rng.normal(0, jitter) * height, height * (1 - person.height) * rng.uniform(0.2, 0.8)
    mirror = -1 if view == 'left' else 1
    for outline, cloth in body_parts(person, 'side' if view in ('left', 'right') else view, rng.uniform(-1, 1)):
        rows, columns = inside(outline * [mirror * scale, scale] + [left, top], canvas.shape)
        canvas[rows, columns] = cloth.at((columns - left) / (mirror * scale), (rows - top) / scale)
    return camera.expose(cv2.resize(canvas, size, interpolation=cv2.INTER_AREA), rng)


def draw_size(heights: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
    """Draw width and height of a photo with a height from the closed range ``heights``."""
    height = int(rng.integers(heights[0], heights[1] + 1))
    return height // 2, height
