"""The 98 landmarks of WFLW on a face in space, and how a pose projects them.

Face coordinates: the origin lies between the eyes, x points to the image's right, y down, z towards the viewer; the
unit is half the width of an average face. Points 0-32 follow the jaw from the image's left to its right, 33-41 and
42-50 the brows, 51-54 the bridge of the nose, 55-59 its base, 60-67 and 68-75 the eyes, 76-87 the outer and 88-95 the
inner edge of the lips; 96 and 97 are the pupils.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation


@dataclass(frozen=True)
class Shape:
    """Proportions of a face."""

    width: float = 1.0
    chin: float = 1.45  # y of the chin
    jaw: float = 0.9  # below 1 angular, above 1 pointed
    brow: float = -0.32  # y of the brows
    brow_thickness: float = 0.045
    eye: float = 0.44  # x of an eye's centre
    eye_width: float = 0.2
    eye_height: float = 0.09
    nose: float = 0.55  # y of its base
    nose_width: float = 0.2
    mouth: float = 0.95  # y of the line between the lips
    mouth_width: float = 0.36
    lip: float = 0.09


@dataclass(frozen=True)
class Expression:
    """Movable parts of a face; the defaults are a neutral one."""

    smile: float = 0.0
    open: float = 0.0  # distance of the lips
    brow: float = 0.0  # by how much the brows rise
    eyes: float = 1.0  # height of the eyes relative to the usual one
    gaze: float = 0.0  # x offset of the pupils


def _mirror() -> np.ndarray:
    index = np.arange(98)
    for left, right in (
        (range(16), range(32, 16, -1)),
        (range(33, 38), range(46, 41, -1)),
        (range(38, 42), range(50, 46, -1)),
        (range(55, 57), range(59, 57, -1)),
        (range(60, 65), range(72, 67, -1)),
        (range(65, 68), range(75, 72, -1)),
        (range(76, 79), range(82, 79, -1)),
        (range(83, 85), range(87, 85, -1)),
        (range(88, 90), range(92, 90, -1)),
        ((93, 96), (95, 97)),
    ):
        index[list(left)], index[list(right)] = right, left
    return index


MIRROR = _mirror()  # each landmark's partner when left and right change sides


def relief(x: np.ndarray) -> np.ndarray:
    """Return z of the face without its nose: it curves back towards the ears."""
    return 0.25 - 0.4 * np.asarray(x) ** 2


def face_landmarks(shape: Shape, expression: Expression) -> np.ndarray:
    """Return the landmarks [98, 3] in face coordinates. But for the gaze they are symmetric."""
    flat = np.zeros((98, 2))
    flat[:33] = _jaw(shape, expression)
    flat[33:42] = _brow(shape, expression)
    flat[51:60] = _nose(shape)
    flat[60:68], flat[96] = _eye(shape, expression), (-shape.eye, -0.01)
    flat[76:96] = _mouth(shape, expression)
    right = flat[MIRROR, 0] < 0  # so far only the image's left half and the middle are there
    flat[right] = flat[MIRROR[right]] * [-1, 1]
    points = np.column_stack([flat, relief(flat[:, 0])])
    points[51:60, 2] += [0.08, 0.15, 0.25, 0.35, 0.06, 0.16, 0.22, 0.16, 0.06]
    points[76:96, 2] += 0.05
    points[96:, 0] += expression.gaze
    return points


def project(points: np.ndarray, yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """Turn points [N, 3] and drop their depth.

    Args:
        points: Face coordinates.
        yaw: Turn towards the image's right, degrees.
        pitch: Turn upwards, degrees.
        roll: Turn in the image plane, clockwise, degrees.

    Returns:
        Points [N, 2], still in face units.
    """
    return Rotation.from_euler('yxz', [yaw, pitch, roll], degrees=True).apply(points)[:, :2]


def _jaw(shape: Shape, expression: Expression) -> np.ndarray:
    angle = np.linspace(0, np.pi, 33)
    x = -shape.width * np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** shape.jaw
    return np.stack([x, (shape.chin + 0.1 + 0.5 * expression.open) * np.sin(angle) - 0.1], 1)


def _brow(shape: Shape, expression: Expression) -> np.ndarray:
    """Outer tip, upper edge to the inner end, lower edge back."""
    along = np.array([0, 0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25])
    edge = np.array([0, -1, -1, -1, -1, 1, 1, 1, 1])
    middle = shape.brow - expression.brow - 0.09 * np.sin(np.pi * (0.1 + 0.75 * along))
    return np.stack([-0.78 + 0.58 * along, middle + edge * shape.brow_thickness * (0.4 + 0.6 * along)], 1)


def _eye(shape: Shape, expression: Expression) -> np.ndarray:
    """Outer corner, upper lid, inner corner, lower lid."""
    angle = np.pi * np.array([0, 1, 2, 3, 4, 5, 6, 7]) / 4
    height = shape.eye_height * expression.eyes * np.where(angle < np.pi, 1, 0.7)
    x, y = -shape.eye_width * np.cos(angle), -height * np.sin(angle)
    return np.stack([x - shape.eye, y + 0.1 * x], 1)  # the outer corner lies a little higher


def _nose(shape: Shape) -> np.ndarray:
    """Bridge from above and the base's left half."""
    points = np.zeros((9, 2))
    points[:4, 1] = np.linspace(0.02, shape.nose - 0.12, 4)
    points[4:7, 0] = np.array([-1, -0.5, 0]) * shape.nose_width
    points[4:7, 1] = shape.nose + np.array([-0.04, 0.02, 0.05])
    return points


def _mouth(shape: Shape, expression: Expression) -> np.ndarray:
    """Left half and middle of both edges; the rest stays zero."""
    drop, lip = expression.open, shape.lip
    outer = {76: (1, 0), 77: (0.62, -0.65 * lip), 78: (0.22, -lip), 79: (0, -0.8 * lip)}
    outer |= {87: (0.62, 0.75 * lip + 0.8 * drop), 86: (0.25, 1.1 * lip + drop), 85: (0, 1.2 * lip + drop)}
    inner = {88: (0.88, 0), 89: (0.45, -0.1 * lip), 90: (0, -0.05 * lip)}
    inner |= {95: (0.45, 0.1 * lip + 0.85 * drop), 94: (0, 0.1 * lip + drop)}
    points = np.zeros((20, 2))
    for index, (x, y) in (outer | inner).items():
        lift = 0.14 * expression.smile * x**2
        points[index - 76] = -x * shape.mouth_width * (1 + 0.3 * expression.smile), shape.mouth + y - lift
    return points
