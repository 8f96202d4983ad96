"""Object discovery: LOST, the share of correct localisations, and COCO restricted to a list of images."""

from .coco_list import CocoImageList
from .functional import localize
from .lost import LOST
from .metric import CorLoc

__all__ = ['LOST', 'CocoImageList', 'CorLoc', 'localize']
