"""Denoising of a layer that another method has replaced, at its output."""

import copy
import functools
from typing import Any

import torch
from torch import Tensor, nn

from reprefine.engine.errors import UserError

from ..functional import Step, predict_noise
from .base import _DenoiseLayer


class DenoiseReplaced(_DenoiseLayer):
    """Mixed in front of a :class:`~reprefine.models.replaced_layer.ReplacedLayer`, whose output takes a denoising step.

    The layers inside stay what they are. The step is linear, so that it folds into the deployed form of the layer.
    """

    default_side = 'output'

    @property
    def channel_dim(self) -> int:
        """Axis of the channels of the output."""
        return -1 if self.replaced_type is nn.Linear else 1

    def _attach(self, host_class: type[nn.Module], *args: Any, side: str | None = None, **options: Any) -> None:
        if side == 'input':
            raise UserError(
                f'{options.get("name", "the layer")} is a {host_class.__name__}, which is denoised at its output only: '
                "leave it out by `exclude`, or do not set side='input'"
            )
        super()._attach(host_class, *args, side='output', **options)

    def _channels(self) -> dict[str, int]:
        return {'output': self.out_channels}

    def _has_bias(self) -> bool:
        return True  # of the deployed form

    def _plain_forward(self, x: Tensor) -> Tensor:
        return self.host_class.forward(self, x)

    def _denoised_forward(self, x: Tensor) -> Tensor:
        return self._denoise(self._plain_forward(x), self._draw_bias_noise())

    def _evaluated_forward(self, x: Tensor) -> Tensor:
        return self._denoise(self._plain_forward(x))

    def _denoise(self, output: Tensor, bias_noise: Tensor | None = None) -> Tensor:
        with torch.no_grad():  # the predictor learns from the noise loss alone
            matrix = output_map(self.denoiser.weight.detach(), self.denoiser.step).to(output.dtype)
            shift = self._shift(output.dtype, bias_noise)
        return predict_noise(output, matrix, shift, self.channel_dim)

    @torch.no_grad()
    def fuse(self) -> nn.Module:
        """Return the deployed form of the host, whose output is that of this layer in evaluation."""
        plain = copy.deepcopy(self.as_base_layer())
        plain.switch_to_deploy()
        plain.map_output(output_map(self.denoiser.weight.double(), self.denoiser.step), self._shift(torch.float64))
        return plain

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles make the class anew, which no module holds by name."""
        return _restore, (self.host_class,), self.__getstate__()


def output_map(predictor: Tensor, step: Step) -> Tensor:
    """Return the matrix of a denoising step, ``c_x I - c_e D``, of the shape ``[C, C / g]`` of the predictor ``D``.

    Args:
        predictor: ``D``, one block a group.
        step: Constants of the layer's timestep.
    """
    channels, width = predictor.shape
    eye = torch.eye(width, dtype=predictor.dtype, device=predictor.device).repeat(channels // width, 1)
    return step.c_x * eye - step.c_e * predictor


@functools.cache
def denoise_replaced(host: type[nn.Module]) -> type[DenoiseReplaced]:
    """Return the denoising class of a :class:`~reprefine.models.replaced_layer.ReplacedLayer`.

    Args:
        host: Class of the layer.
    """
    return type(f'Denoise{host.__name__}', (DenoiseReplaced, host), dict(__module__=__name__, __doc__=host.__doc__))


def _restore(host: type[nn.Module]) -> nn.Module:
    cls = denoise_replaced(host)
    return cls.__new__(cls)
