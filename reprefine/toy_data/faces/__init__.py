"""Rendered faces whose 98 landmarks and part masks come from the same outlines."""

from .landmarks import MIRROR, Expression, Shape, face_landmarks, project
from .look import Face, draw_face
from .picture import FacePicture, Light

__all__ = [
    'MIRROR',
    'Expression',
    'Face',
    'FacePicture',
    'Light',
    'Shape',
    'draw_face',
    'face_landmarks',
    'project',
]
