"""DVT: denoised features of vision transformers, per image and by one learned block (ECCV 2024)."""

from .algorithm import DenoiserTraining, DVTDistiller
from .closed_form import ClosedForm, ClosedFormConfig
from .control import PatternedBackbone
from .denoiser import FeatureDenoiser
from .files import FeaturePairs, model_folder
from .fit import FitConfig
from .hooks import DenoiserPictureHook
from .losses import FeatureLoss
from .neck import DVTDenoiser
from .pairs import FeaturePairDataset
from .schedulers import DenoiserLR
from .settings import Stage1Config
from .solution import Solution
from .stage1 import Stage1, denoise_image

__all__ = [
    'ClosedForm',
    'ClosedFormConfig',
    'DVTDenoiser',
    'DVTDistiller',
    'DenoiserLR',
    'DenoiserPictureHook',
    'DenoiserTraining',
    'FeatureDenoiser',
    'FeatureLoss',
    'FeaturePairDataset',
    'FeaturePairs',
    'FitConfig',
    'PatternedBackbone',
    'Solution',
    'Stage1',
    'Stage1Config',
    'denoise_image',
    'model_folder',
]
