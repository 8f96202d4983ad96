"""Semantic segmentation by frozen dense features: a linear head, nearest neighbours, and maps from files."""

from .feature_map import LoadFeatureMap, StoredFeatures
from .knn_head import KNNHead
from .knn_loop import MemoryBankLoop, NothingToTrain
from .linear_head import LinearHead

__all__ = ['KNNHead', 'LinearHead', 'LoadFeatureMap', 'MemoryBankLoop', 'NothingToTrain', 'StoredFeatures']
