"""Noise predictor at the output of a layer that another method has replaced."""

import copy
import functools
from typing import Any

import torch
from torch import Tensor, nn

from reprefine.engine.errors import UserError

from ..functional import StepConstants, predict_noise
from .base import DenoiseLayer


class DenoiseReplaced(DenoiseLayer):
    """Mixin that denoises the output of a :class:`~reprefine.models.replaced_layer.ReplacedLayer`.

    The inner layers of the replaced layer are not changed. The denoising step is a linear map of the output, which is
    merged into the deployed form of the layer.
    """

    default_side = 'output'
    out_channels: int

    @property
    def channel_dim(self) -> int:
        """Axis of the channels of the output."""
        return -1 if self.replaced_type is nn.Linear else 1

    def _attach(self, base_class: type[nn.Module], *args: Any, side: str | None = None, **options: Any) -> None:
        if side == 'input':
            raise UserError(
                f"side='input' for {options.get('name', 'the layer')}, a {base_class.__name__}, which is denoised at "
                "its output only: set side='output', or leave the layer out by `exclude`"
            )
        super()._attach(base_class, *args, side='output', **options)

    def _channels(self) -> dict[str, int]:
        return {'output': self.out_channels}

    def _has_bias(self) -> bool:
        return True  # of the deployed form

    def _base_forward(self, x: Tensor) -> Tensor:
        return self.base_class.forward(self, x)

    def _denoised_forward(self, x: Tensor) -> Tensor:
        return self._denoise(self._base_forward(x), self._draw_bias_noise())

    def _evaluated_forward(self, x: Tensor) -> Tensor:
        return self._denoise(self._base_forward(x))

    def _denoise(self, output: Tensor, bias_noise: Tensor | None = None) -> Tensor:
        with torch.no_grad():  # the predictor is trained by the noise loss alone
            matrix = step_matrix(self.denoiser.weight.detach(), self.denoiser.step).to(output.dtype)
            shift = self._shift(output.dtype, bias_noise)
        return predict_noise(output, matrix, shift, self.channel_dim)

    @torch.no_grad()
    def reparameterize(self) -> nn.Module:
        """Return the deployed form of the replaced layer, with the denoising step merged into it."""
        deployed = copy.deepcopy(self.as_base_layer())
        deployed.switch_to_deploy()
        deployed.map_output(step_matrix(self.denoiser.weight.double(), self.denoiser.step), self._shift(torch.float64))
        return deployed

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles create the class by :func:`denoise_replaced`, because no module defines it by name."""
        return _restore, (self.base_class,), self.__getstate__()


def step_matrix(predictor: Tensor, step: StepConstants) -> Tensor:
    """Return the matrix of a denoising step, ``c_x I - c_e D``, of shape ``[C, C / g]``.

    Args:
        predictor: ``D``, shape ``[C, C / g]``, one diagonal block per group.
        step: Constants of the layer's timestep.
    """
    channels, width = predictor.shape
    eye = torch.eye(width, dtype=predictor.dtype, device=predictor.device).repeat(channels // width, 1)
    return step.c_x * eye - step.c_e * predictor


@functools.cache
def denoise_replaced(base_class: type[nn.Module]) -> type[DenoiseReplaced]:
    """Return the denoising class of a :class:`~reprefine.models.replaced_layer.ReplacedLayer`.

    Args:
        base_class: Class of the layer.
    """
    members = dict(__module__=__name__, __doc__=base_class.__doc__)
    return type(f'Denoise{base_class.__name__}', (DenoiseReplaced, base_class), members)


def _restore(base_class: type[nn.Module]) -> nn.Module:
    cls = denoise_replaced(base_class)
    return cls.__new__(cls)
