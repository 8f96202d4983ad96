"""DVT: denoised features of vision transformers, per image and by one learned block (ECCV 2024)."""

from .denoiser.hooks import DenoiserPictureHook
from .denoiser.losses import FeatureLoss
from .denoiser.neck import DVTDenoiser
from .denoiser.network import FeatureDenoiser
from .denoiser.pair_dataset import FeaturePairDataset
from .denoiser.schedulers import DenoiserLR
from .denoiser.training import DenoiserTraining, DVTDistiller
from .stage1.closed_form import ClosedForm, ClosedFormConfig
from .stage1.fit import FitConfig
from .stage1.pipeline import Stage1, denoise_image
from .stage1.settings import Stage1Config
from .stage1.solution import Solution
from .stage1.storage import FeaturePairs, model_folder

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
    'Solution',
    'Stage1',
    'Stage1Config',
    'denoise_image',
    'model_folder',
]
