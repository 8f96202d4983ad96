"""RepFusion: features of a diffusion model, at timesteps chosen by reinforcement learning, teach a student (ICCV 2023)."""

from .diffusion import DenoisingDiffusion, denoising_errors
from .export import SaveTeacherHook, save_teacher
from .losses import AttentionTransferLoss, ContrastiveFeatureLoss, DenseLoss, HintLoss, RelationalLoss
from .sampling import DenoisingError, SampleGridHook, ddim_samples
from .select import FixedTimesteps, IntervalTimesteps, TimestepSource, UniformTimesteps, ZeroTimesteps
from .teacher import DiffusionTeacher, HoldsTeacher

__all__ = [
    'AttentionTransferLoss',
    'ContrastiveFeatureLoss',
    'DenoisingDiffusion',
    'DenoisingError',
    'DenseLoss',
    'DiffusionTeacher',
    'FixedTimesteps',
    'HintLoss',
    'HoldsTeacher',
    'IntervalTimesteps',
    'RelationalLoss',
    'SampleGridHook',
    'SaveTeacherHook',
    'TimestepSource',
    'UniformTimesteps',
    'ZeroTimesteps',
    'ddim_samples',
    'denoising_errors',
    'save_teacher',
]
