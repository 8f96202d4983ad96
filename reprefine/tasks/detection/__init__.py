"""Detection: average precision on VOC at several IoU thresholds."""

from .metrics import VOCAveragePrecision

__all__ = ['VOCAveragePrecision']
