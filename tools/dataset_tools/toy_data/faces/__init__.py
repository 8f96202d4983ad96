"""Rendered faces whose 98 landmarks and part masks come from the same outlines."""

from .appearance import Face, draw_face
from .canvas import FaceCanvas, Light
from .landmarks import MIRROR, Expression, Shape, face_landmarks, project

__all__ = [
    'MIRROR',
    'Expression',
    'Face',
    'FaceCanvas',
    'Light',
    'Shape',
    'draw_face',
    'face_landmarks',
    'project',
]
