"""Detection: average precision on VOC at several overlaps."""

from .voc_metric import VOCAveragePrecision

__all__ = ['VOCAveragePrecision']
