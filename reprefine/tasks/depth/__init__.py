"""Monocular depth: a linear head, losses, metric and augmentation over mmseg's depth estimation."""

from .head import LinearDepthHead
from .losses import GradientLoss, SigLoss
from .metrics import DepthMetric
from .transforms import FixedCrop, RandomColour

__all__ = ['DepthMetric', 'FixedCrop', 'GradientLoss', 'LinearDepthHead', 'RandomColour', 'SigLoss']
