"""Rendered pedestrians: an identity decides body and clothes, a camera the view, the light and the background."""

from .camera import Camera, draw_cameras, draw_visits
from .identity import draw_person
from .photo import draw_size, render_person

__all__ = ['Camera', 'draw_cameras', 'draw_person', 'draw_size', 'draw_visits', 'render_person']
