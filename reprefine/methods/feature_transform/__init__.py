"""Feature transformation: harder positives and fresh negatives for contrastive learning with a queue (ICCV 2021)."""

from .algorithm import MoCoFT
from .contrast import queue_cross_entropy
from .densecl import DenseCLFT
from .draws import Coefficient, Draws, symmetric_beta
from .functional import negative_interpolation, positive_extrapolation, score_stats, softmax_stats
from .hooks import FTScheduleHook
from .knn import KNNMonitorHook, knn_top1
from .score_files import read_run
from .score_hook import ScoreStatsHook
from .transform import FeatureTransform

__all__ = [
    'Coefficient',
    'DenseCLFT',
    'Draws',
    'FTScheduleHook',
    'FeatureTransform',
    'KNNMonitorHook',
    'MoCoFT',
    'ScoreStatsHook',
    'knn_top1',
    'negative_interpolation',
    'positive_extrapolation',
    'queue_cross_entropy',
    'read_run',
    'score_stats',
    'softmax_stats',
    'symmetric_beta',
]
