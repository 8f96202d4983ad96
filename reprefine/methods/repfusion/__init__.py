"""RepFusion: features of a diffusion model, at timesteps that a policy learns, teach a student (ICCV 2023)."""

from .select import FixedTimesteps, IntervalTimesteps, TimestepSource, UniformTimesteps, ZeroTimesteps
from .teacher import DiffusionTeacher, HoldsTeacher

__all__ = [
    'DiffusionTeacher',
    'FixedTimesteps',
    'HoldsTeacher',
    'IntervalTimesteps',
    'TimestepSource',
    'UniformTimesteps',
    'ZeroTimesteps',
]
