"""Semantic segmentation by frozen dense features: a linear head, and nearest neighbours."""

from .knn_head import KNNHead, MemoryBankLoop
from .linear_head import LinearHead

__all__ = ['KNNHead', 'LinearHead', 'MemoryBankLoop']
