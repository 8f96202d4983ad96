"""DVT: denoised features of vision transformers, per image and by one learned block (ECCV 2024)."""

from .algorithm import DenoiserTraining, DVTDistiller
from .control import PatternedBackbone
from .denoiser import FeatureDenoiser
from .files import FeaturePairs, model_folder
from .hooks import DenoiserPictureHook
from .losses import FeatureLoss
from .neck import DVTDenoiser
from .pairs import FeaturePairDataset
from .schedulers import DenoiserLR

__all__ = [
    'DVTDenoiser',
    'DVTDistiller',
    'DenoiserLR',
    'DenoiserPictureHook',
    'DenoiserTraining',
    'FeatureDenoiser',
    'FeatureLoss',
    'FeaturePairDataset',
    'FeaturePairs',
    'PatternedBackbone',
    'model_folder',
]
