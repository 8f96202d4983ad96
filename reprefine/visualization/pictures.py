"""Turning arrays into pictures."""

import math
from pathlib import Path

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from reprefine.engine.errors import UserError


def to_rgb8(image: np.ndarray | list, is_bgr: bool) -> np.ndarray:
    """Make any image of a pipeline drawable.

    Args:
        image: Array of shape (height, width) or (height, width, channels), or a list of them (views), which are
            put side by side. Values that are not 8 bit are stretched to their range.
        is_bgr: The order of three channels.

    Returns:
        RGB image of shape (height, width, 3), 8 bit.
    """
    if isinstance(image, (list, tuple)):
        views = [to_rgb8(view, is_bgr) for view in image]
        height = max(view.shape[0] for view in views)
        return np.hstack([np.pad(view, ((0, height - view.shape[0]), (0, 0), (0, 0))) for view in views])
    image = np.asarray(image)
    if image.dtype != np.uint8:
        low, high = float(image.min()), float(image.max())
        image = ((image - low) * (255 / max(high - low, 1e-12))).round().astype(np.uint8)
    if image.ndim == 2 or image.shape[2] == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    image = image[..., :3]
    return np.ascontiguousarray(image[..., ::-1] if is_bgr else image)


def tile(images: list[np.ndarray], titles: list[str]) -> np.ndarray:
    """Put pictures side by side, four a row, under their titles.

    Args:
        images: RGB pictures.
        titles: One a picture.

    Returns:
        RGB picture.
    """
    columns = min(len(images), 4)
    rows = math.ceil(len(images) / columns)
    tallest = max(image.shape[0] / image.shape[1] for image in images)
    figure = Figure(figsize=(4 * columns, (4 * tallest + 0.6) * rows), layout='constrained', dpi=100)
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.set_axis_off()
        axes.set_anchor('N')
    for axes, image, title in zip(figure.axes, images, titles, strict=False):
        axes.imshow(image)
        axes.set_title(title, fontsize=11)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def write_png(image: np.ndarray, path: Path) -> None:
    """Write an RGB picture.

    Args:
        image: The picture, 8 bit.
        path: The file; its folder is made.

    Raises:
        UserError: The file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), image[..., ::-1]):
        raise UserError(f'{path} cannot be written')
