"""DenoiseRep: linear noise predictors that are trained per layer and folded into the layer (NeurIPS 2024)."""

from .conversion.convert import convert
from .conversion.converted import (
    ConvertedLayer,
    FusedModelError,
    denoise_layers,
    fuse,
    is_converted,
    is_fused,
    noise_loss,
    report,
)
from .import_published import import_published
from .layers.linear_conv import DenoiseConv2d, DenoiseLinear
from .model import DenoiseRep
from .training.fit import DenoiseFitLoop, expected_noise_losses, fit_closed_form
from .training.hooks import DenoisePhaseHook, phase_at
from .training.moments import FeatureMoments, collect_moments
from .training.phases import set_phase

__all__ = [
    'ConvertedLayer',
    'DenoiseConv2d',
    'DenoiseFitLoop',
    'DenoiseLinear',
    'DenoisePhaseHook',
    'DenoiseRep',
    'FeatureMoments',
    'FusedModelError',
    'collect_moments',
    'convert',
    'denoise_layers',
    'expected_noise_losses',
    'fit_closed_form',
    'fuse',
    'import_published',
    'is_converted',
    'is_fused',
    'noise_loss',
    'phase_at',
    'report',
    'set_phase',
]
