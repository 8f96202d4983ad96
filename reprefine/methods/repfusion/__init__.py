"""RepFusion: distillation of a diffusion model's features at timesteps selected by a policy (ICCV 2023)."""

from .distillation.distiller import RepFusionDistiller
from .distillation.evaluation import StudentR2, r_squared
from .distillation.kd_classifier import KDClassifier
from .distillation.kd_losses import AttentionKD, HintKD, LogitsKD, RelationalKD, SoftTargetKD
from .distillation.losses import AttentionTransferLoss, ContrastiveFeatureLoss, DenseLoss, HintLoss, RelationalLoss
from .policy.histogram import read_histogram
from .policy.policy_networks import AlexNetPolicy, LeNetPolicy, MLPPolicy
from .policy.policy_timesteps import PolicyTimesteps
from .policy.schedule_hooks import DrawCountHook, MaxTimestepDecayHook
from .policy.selector_hook import RLTimestepSelectorHook
from .policy.timestep_sources import FixedTimesteps, IntervalTimesteps, TimestepSource, UniformTimesteps, ZeroTimesteps
from .teacher.denoising_diffusion import DenoisingDiffusion, denoising_errors
from .teacher.diffusion_teacher import DiffusionTeacher
from .teacher.export import SaveTeacherHook, save_teacher
from .teacher.feature_cache import CachedDiffusionTeacher
from .teacher.latent_teacher import LatentDiffusionTeacher
from .teacher.sampling import DenoisingError, SampleGridHook, ddim_samples

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
    'StudentR2',
    'TimestepSource',
    'UniformTimesteps',
    'ZeroTimesteps',
    'ddim_samples',
    'denoising_errors',
    'r_squared',
    'read_histogram',
    'save_teacher',
]
