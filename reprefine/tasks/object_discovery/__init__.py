"""Unsupervised object discovery: LOST, the metric CorLoc, and COCO restricted to a list of images."""

from .datasets import CocoImageList
from .functional import localize
from .metrics import CorLoc
from .models import LOST

__all__ = ['LOST', 'CocoImageList', 'CorLoc', 'localize']
