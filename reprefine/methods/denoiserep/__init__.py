"""DenoiseRep (NeurIPS 2024): linear noise predictors per layer, which are merged into the layers for deployment."""

from .conversion.convert import convert
from .conversion.converted import (
    ConversionError,
    ConvertedLayer,
    denoise_layers,
    is_converted,
    is_reparameterized,
    noise_loss,
    reparameterize,
    report,
)
from .import_published import import_published
from .layers.linear_conv import DenoiseConv2d, DenoiseLinear
from .model import DenoiseRep
from .training.fit import DenoiseFitLoop, expected_noise_losses, fit_closed_form
from .training.hooks import DenoisePhaseHook, phase_at
from .training.moments import FeatureMoments, collect_moments
from .training.phases import set_phase
from .training.selection import StepCandidate, candidate_table, layers_named, select_step, set_layer_steps

__all__ = [
    'ConvertedLayer',
    'DenoiseConv2d',
    'DenoiseFitLoop',
    'DenoiseLinear',
    'DenoisePhaseHook',
    'DenoiseRep',
    'FeatureMoments',
    'StepCandidate',
    'ConversionError',
    'candidate_table',
    'collect_moments',
    'convert',
    'denoise_layers',
    'expected_noise_losses',
    'fit_closed_form',
    'reparameterize',
    'import_published',
    'is_converted',
    'is_reparameterized',
    'layers_named',
    'noise_loss',
    'phase_at',
    'report',
    'select_step',
    'set_layer_steps',
    'set_phase',
]
