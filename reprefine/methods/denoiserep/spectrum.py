"""Spectra of the outputs of the converted layers, without and with denoising."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .conversion.converted import denoise_layers, denoise_state
from .training.moments import FeatureMoments

Spectra = dict[str, tuple[Tensor, Tensor]]


@torch.no_grad()
def feature_spectra(model: nn.Module, run: Callable[[], None]) -> Spectra:
    """Return the eigenvalues of the covariance of every converted layer's output, without and with denoising.

    Args:
        model: Converted model, in evaluation mode.
        run: Function that runs the model on the same data at every call; it is called twice.

    Returns:
        By layer: eigenvalues ``[C]`` of the base model and of the denoised one, float64, in descending order. Each
        covariance is over all positions and images; that of the denoised model includes the effect of earlier layers.
    """
    state = denoise_state(model)
    was_denoised = state.denoise_eval
    try:
        state.denoise_eval = False
        before = _output_moments(model, run)
        state.denoise_eval = True
        after = _output_moments(model, run)
    finally:
        state.denoise_eval = was_denoised
    return {name: (_eigenvalues(before[name]), _eigenvalues(after[name])) for name in before}


def _output_moments(model: nn.Module, run: Callable[[], None]) -> dict[str, FeatureMoments]:
    moments, handles = {}, []
    for name, layer in denoise_layers(model).items():
        moments[name] = FeatureMoments(1, layer.output_channels, layer.denoiser.weight.device)
        add = moments[name].add
        handles.append(layer.register_forward_hook(lambda layer, _, output, add=add: add(output, layer.channel_dim)))
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return moments


def _eigenvalues(moments: FeatureMoments) -> Tensor:
    return torch.linalg.eigvalsh(moments.covariance[0]).flip(0).clamp(min=0)
