"""Face parsing: CelebAMask-HQ with its converter, transforms and visualization hook."""

from .datasets import CelebAHQImages, CelebAMaskHQ
from .hooks import FaceVisualizationHook
from .transforms import RandomFaceFlip, ResizeToMask

__all__ = ['CelebAHQImages', 'CelebAMaskHQ', 'FaceVisualizationHook', 'RandomFaceFlip', 'ResizeToMask']
