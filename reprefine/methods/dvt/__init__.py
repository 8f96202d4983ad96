"""Denoising Vision Transformers (DVT, ECCV 2024): per-image denoising of features, and the denoiser trained on them."""

from .denoiser.hooks import DenoiserVisualizationHook
from .denoiser.losses import FeatureLoss
from .denoiser.neck import DVTDenoiser
from .denoiser.network import FeatureDenoiser
from .denoiser.pair_dataset import FeaturePairDataset
from .denoiser.schedulers import DenoiserLR
from .denoiser.training import DenoiserTraining, DVTDistiller
from .stage1.features import FeatureExtractor
from .stage1.pipeline import Stage1, denoise_image
from .stage1.settings import Stage1Config
from .stage1.solvers.closed_form import ClosedForm, ClosedFormConfig
from .stage1.solvers.field_solver import FitConfig
from .stage1.solvers.solver import Solution
from .stage1.storage import FeaturePairs, model_folder

__all__ = [
    'ClosedForm',
    'ClosedFormConfig',
    'DVTDenoiser',
    'DVTDistiller',
    'DenoiserLR',
    'DenoiserVisualizationHook',
    'DenoiserTraining',
    'FeatureDenoiser',
    'FeatureExtractor',
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
