"""Conversion of arrays to RGB images, grids of images, and PNG files."""

import math
from pathlib import Path

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from reprefine.engine.errors import UserError


def to_rgb8(image: np.ndarray | list, is_bgr: bool) -> np.ndarray:
    """Convert an image of a pipeline to RGB.

    Args:
        image: Array of shape (height, width) or (height, width, channels), or a list of them (views), which are
            concatenated horizontally. Values of other types than uint8 are scaled to their range.
        is_bgr: Whether three channels are in BGR order.

    Returns:
        RGB image, uint8 of shape (height, width, 3).
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


def image_grid(images: list[np.ndarray], titles: list[str]) -> np.ndarray:
    """Arrange images in a grid of up to four columns, each with a title.

    Args:
        images: RGB images.
        titles: Title of each image.

    Returns:
        RGB image of the grid, uint8.
    """
    columns = min(len(images), 4)
    rows = math.ceil(len(images) / columns)
    max_aspect = max(image.shape[0] / image.shape[1] for image in images)
    figure = Figure(figsize=(4 * columns, (4 * max_aspect + 0.6) * rows), layout='constrained', dpi=100)
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
    """Write an RGB image.

    Args:
        image: RGB image, uint8 of shape (height, width, 3).
        path: PNG file; missing parent folders are created.

    Raises:
        UserError: The file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), image[..., ::-1]):
        raise UserError(f'{path} cannot be written: give another file name')
