"""Semantic segmentation: the linear head that probes dense features."""

from .linear_head import LinearHead

__all__ = ['LinearHead']
