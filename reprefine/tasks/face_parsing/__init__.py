"""Face parsing: CelebAMask-HQ, its converter, and the transforms and the hook it needs."""

from .dataset import CelebAMaskHQ
from .hooks import FaceVisualizationHook
from .images import CelebAHQImages
from .transforms import RandomFaceFlip, ResizeToMask

__all__ = ['CelebAHQImages', 'CelebAMaskHQ', 'FaceVisualizationHook', 'RandomFaceFlip', 'ResizeToMask']
