"""Monocular depth estimation in mmseg: a linear head, losses, a metric and transforms."""

from .heads import LinearDepthHead
from .losses import GradientLoss, SigLoss
from .metrics import DepthMetric
from .transforms import FixedCrop, RandomColour

__all__ = ['DepthMetric', 'FixedCrop', 'GradientLoss', 'LinearDepthHead', 'RandomColour', 'SigLoss']
