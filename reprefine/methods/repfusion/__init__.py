"""RepFusion: features of a diffusion model, at timesteps that a policy learns, teach a student (ICCV 2023)."""

from .algorithm import RepFusionDistiller
from .data import CachedDiffusionTeacher
from .diffusion import DenoisingDiffusion, denoising_errors
from .export import SaveTeacherHook, save_teacher
from .histogram import read_histogram
from .hooks import DrawCountHook, MaxTimestepDecayHook
from .kd import AttentionKD, HintKD, KDClassifier, LogitsKD, RelationalKD, SoftTargetKD
from .latent import LatentDiffusionTeacher
from .learner import PolicyTimesteps
from .losses import AttentionTransferLoss, ContrastiveFeatureLoss, DenseLoss, HintLoss, RelationalLoss
from .policy import AlexNetPolicy, LeNetPolicy, MLPPolicy
from .sampling import DenoisingError, SampleGridHook, ddim_samples
from .select import FixedTimesteps, IntervalTimesteps, TimestepSource, UniformTimesteps, ZeroTimesteps
from .selector_hook import RLTimestepSelectorHook
from .shared import HoldsTeacher
from .teacher import DiffusionTeacher

__all__ = [
    'AlexNetPolicy',
    'AttentionKD',
    'AttentionTransferLoss',
    'CachedDiffusionTeacher',
    'ContrastiveFeatureLoss',
    'DenoisingDiffusion',
    'DenoisingError',
    'DenseLoss',
    'DiffusionTeacher',
    'DrawCountHook',
    'FixedTimesteps',
    'HintKD',
    'HintLoss',
    'HoldsTeacher',
    'IntervalTimesteps',
    'KDClassifier',
    'LatentDiffusionTeacher',
    'LeNetPolicy',
    'LogitsKD',
    'MLPPolicy',
    'MaxTimestepDecayHook',
    'PolicyTimesteps',
    'RLTimestepSelectorHook',
    'RelationalKD',
    'RelationalLoss',
    'RepFusionDistiller',
    'SampleGridHook',
    'SaveTeacherHook',
    'SoftTargetKD',
    'TimestepSource',
    'UniformTimesteps',
    'ZeroTimesteps',
    'ddim_samples',
    'denoising_errors',
    'read_histogram',
    'save_teacher',
]
