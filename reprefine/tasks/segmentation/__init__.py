"""Semantic segmentation by frozen features: a linear head, nearest neighbours, and stored feature maps."""

from .backbones import StoredFeatures
from .heads import KNNHead, LinearHead
from .loops import MemoryBankLoop, NothingToTrain
from .transforms import LoadFeatureMap

__all__ = ['KNNHead', 'LinearHead', 'LoadFeatureMap', 'MemoryBankLoop', 'NothingToTrain', 'StoredFeatures']
