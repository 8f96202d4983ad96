"""Person re-identification: datasets, PK sampler, BNNeck head, losses, and the retrieval metric."""

from .datasets import CUHK03, MSMT17, DukeMTMC, Market1501, MergedReID
from .heads import BNNeckHead
from .losses import BatchHardTripletLoss
from .metrics import ReIDMetric
from .models import ReIDTTAModel
from .samplers import PKSampler
from .schedulers import WarmupCosineLR

__all__ = [
    'BNNeckHead',
    'BatchHardTripletLoss',
    'CUHK03',
    'DukeMTMC',
    'MSMT17',
    'Market1501',
    'MergedReID',
    'PKSampler',
    'ReIDMetric',
    'ReIDTTAModel',
    'WarmupCosineLR',
]
