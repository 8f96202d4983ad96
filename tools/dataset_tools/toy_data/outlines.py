"""Outlines: closed curves of points (x, y), and the pixels inside them."""

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from scipy.interpolate import CubicSpline


def ellipse(center: tuple[float, float], radii: tuple[float, float], points: int = 24) -> np.ndarray:
    """Return an upright ellipse of shape [points, 2]."""
    return _unit_circle(points) * radii + center


@cache
def _unit_circle(points: int) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def curve(points: np.ndarray, steps: int = 5) -> np.ndarray:
    """Return the natural cubic spline through points [N, D], with ``steps`` points from one of them to the next."""
    return _spline_weights(len(points), steps) @ points


@cache
def _spline_weights(count: int, steps: int) -> np.ndarray:
    positions = np.linspace(0, count - 1, steps * (count - 1) + 1)
    return CubicSpline(np.arange(count), np.eye(count), bc_type='natural')(positions)


def inside(outline: np.ndarray, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels inside an outline, as rows and columns.

    Args:
        outline: Points [N, 2] as (x, y) in pixels; pixel centres have whole numbers.
        shape: Height and width of the image; what lies beyond is cut off.
    """
    points = np.rint(outline).astype(np.int32)
    corner, far = points.min(0), points.max(0)
    mask = np.zeros((far - corner + 1)[::-1], np.uint8)
    rows, columns = np.nonzero(cv2.fillPoly(mask, [points - corner], 1))
    rows, columns = rows + corner[1], columns + corner[0]
    seen = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    return rows[seen], columns[seen]
