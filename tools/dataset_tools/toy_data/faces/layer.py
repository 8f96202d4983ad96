"""What the painted layers of a face are made of.

Parts have the names of CelebAMask-HQ. There ``l_`` and ``r_`` mean the left and the right of the *image*.
"""

from dataclasses import dataclass

import numpy as np

from .appearance import Color, Face
from .landmarks import face_landmarks, project, relief


@dataclass(frozen=True)
class Layer:
    """One coloured area.

    Attributes:
        outlines: Arrays [N, 2] in face units; inside is what an odd number of them surrounds.
        color: RGB in [0, 1].
        part: The part it belongs to, or None for paint on other parts.
        within: Outlines that cut the layer off, if any.
        alpha: Opacity.
        hides: Whether what lies below disappears from the masks of the parts.
    """

    outlines: list[np.ndarray]
    color: Color
    part: str | None = None
    within: tuple[np.ndarray, ...] = ()
    alpha: float = 1.0
    hides: bool = False


class PosedFace:
    """A face in its pose.

    Args:
        face: The face.

    Attributes:
        landmarks: Projected landmarks [98, 2] in face units.
    """

    def __init__(self, face: Face) -> None:
        self.appearance, self.shape, self.expression = face.appearance, face.shape, face.expression
        self._pose = face.yaw, face.pitch, face.roll
        self.landmarks = self.project(face_landmarks(face.shape, face.expression))

    def project(self, points: np.ndarray) -> np.ndarray:
        """Project points [N, 3] to [N, 2]."""
        return project(points, *self._pose)

    def on(self, flat: np.ndarray | list, depth: float | None = None) -> np.ndarray:
        """Project points [N, 2] that lie at z = ``depth``, or on the face if it is None."""
        flat = np.asarray(flat, float)
        return self.project(np.column_stack([flat, relief(flat[:, 0]) if depth is None else np.full(len(flat), depth)]))
