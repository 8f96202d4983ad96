"""Feature transformation (FT) for contrastive learning with a queue: positive extrapolation, negative interpolation."""

from .densecl import DenseCLFT
from .draws import Coefficient, TransformDraws, symmetric_beta
from .functional import negative_interpolation, positive_extrapolation, score_stats, softmax_stats
from .loss import queue_cross_entropy
from .moco import MoCoFT
from .schedule_hook import FTScheduleHook
from .score_files import read_run
from .score_hook import ScoreStatsHook
from .transform import FeatureTransform

__all__ = [
    'Coefficient',
    'DenseCLFT',
    'TransformDraws',
    'FTScheduleHook',
    'FeatureTransform',
    'MoCoFT',
    'ScoreStatsHook',
    'negative_interpolation',
    'positive_extrapolation',
    'queue_cross_entropy',
    'read_run',
    'score_stats',
    'softmax_stats',
    'symmetric_beta',
]
