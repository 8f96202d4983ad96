"""DVT: denoised features of vision transformers, per image and by one learned block (ECCV 2024)."""

from .files import FeaturePairs, model_folder

__all__ = [
    'FeaturePairs',
    'model_folder',
]
