"""Real handwritten digits, cut out and enlarged so that they can be put into images."""

import cv2
import numpy as np

from reprefine.tasks.classification.datasets.digits import mnist5k


def digit_matte(rng: np.random.Generator, label: int, size: int) -> np.ndarray:
    """Draw one of the digits of a class.

    Args:
        rng: Source of the choice.
        label: Class 0 to 9.
        size: Longer side, pixels. The shorter side is at least half of it, so that a 1 does not vanish.

    Returns:
        Opacity in [0, 1], float32 of shape (height, width); the digit is where it exceeds 0.5.
    """
    images, labels = mnist5k()
    image = images[rng.choice(np.flatnonzero(labels == label))]
    x, y, width, height = cv2.boundingRect((image > 127).astype(np.uint8))
    zoom = size / max(width, height)
    sides = [max(round(side * zoom), size // 2) for side in (width, height)]
    large = cv2.resize(image[y : y + height, x : x + width] / np.float32(255), sides, interpolation=cv2.INTER_CUBIC)
    # Enlarging blurs the rim; the slope brings it back to about a pixel.
    return np.clip((large - 0.5) * max(zoom, 1) + 0.5, 0, 1)
