"""Image files with the same bytes whenever the pixels are the same."""

from pathlib import Path

import numpy as np
from PIL import Image


def save_jpeg(path: Path, image: np.ndarray, quality: int = 90) -> None:
    """Write a JPEG, with its folder if need be.

    Args:
        path: File to write, with any suffix.
        image: RGB, uint8 of shape (H, W, 3).
        quality: Quality as Pillow counts it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, 'JPEG', quality=quality)


def save_png(path: Path, image: np.ndarray, palette: np.ndarray | None = None) -> None:
    """Write a PNG, with its folder if need be.

    Args:
        path: File to write.
        image: Grey, uint8 or uint16 of shape (H, W), or RGB, uint8 of shape (H, W, 3).
        palette: RGB of each of the 256 indices, uint8 of shape (256, 3); makes a palette image of a uint8 one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    pil_image = Image.fromarray(image)
    if palette is not None:
        pil_image.putpalette(palette.tobytes())
    pil_image.save(path, 'PNG')
