"""Linear and convolution layers with a noise predictor that folds into their weight."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..functional import merge_input_side, merge_output_side, predict_noise
from .base import _DenoiseLayer


class _WeightLayer(_DenoiseLayer):
    """A denoising layer that has one weight, into which its step is merged."""

    plain_class: type[nn.Module]

    def __init__(self, *args: Any, denoise: dict[str, Any], **kwargs: Any) -> None:
        """Build host and predictor; ``denoise`` holds the arguments of :meth:`_attach`, the rest is the host's."""
        super().__init__(*args, **kwargs)
        self._attach(self.plain_class, **denoise)

    def _channels(self) -> dict[str, int]:
        return {'input': self.weight.shape[1] * getattr(self, 'groups', 1), 'output': self.weight.shape[0]}

    def _has_bias(self) -> bool:
        return self.bias is not None

    def _host_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        raise NotImplementedError

    def _plain_forward(self, x: Tensor) -> Tensor:
        return self._host_forward(x, self.weight, self.bias)

    def _denoised_forward(self, x: Tensor) -> Tensor:
        return self._host_forward(x, *self.effective_weight_bias(bias_noise=self._draw_bias_noise()))

    def _evaluated_forward(self, x: Tensor) -> Tensor:
        return self._host_forward(x, *self.state.merged.of(self))

    def explicit_output(self, x: Tensor) -> Tensor:
        """Return the output in evaluation, of a feature that takes its step as such: no weights are merged."""
        return self._step(self._plain_forward(x)) if self.side == 'output' else self._of_denoised_input(x)

    def _step(self, feature: Tensor) -> Tensor:
        step, constant = self.denoiser.step, self.denoiser.constant()
        return step.c_x * feature - step.c_e * predict_noise(feature, self.denoiser.weight, constant, self.channel_dim)

    def _of_denoised_input(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def _merge(self, dtype: torch.dtype, bias_noise: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        with torch.no_grad():  # the predictor learns from the noise loss alone
            shift = self._shift(dtype, bias_noise)
            predictor = self.denoiser.weight.detach().to(dtype)  # `to` alone may return the parameter itself
        merge = merge_input_side if self.side == 'input' else merge_output_side
        bias = None if self.bias is None else self.bias.to(dtype)
        return merge(self.weight.to(dtype), bias, predictor, shift, self.denoiser.step)

    def effective_weight_bias(self, bias_noise: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the merged weight and bias, differentiable in the host's own.

        Computed in at least float32 and cast to the host's type at the end.

        Args:
            bias_noise: Standard normal draw ``z`` of the predictor's width for the stochastic reverse step, or None.
        """
        with torch.autocast(self.weight.device.type, enabled=False):
            weight, bias = self._merge(torch.promote_types(self.weight.dtype, torch.float32), bias_noise)
        return weight.to(self.weight.dtype), None if bias is None else bias.to(self.weight.dtype)

    @torch.no_grad()
    def fuse(self) -> nn.Module:
        """Return a new plain layer of the host's class that computes this layer's evaluation output exactly.

        Merged in float64, then cast. Device, dtype, ``requires_grad`` and training flag are kept; this layer is not
        modified.
        """
        weight, bias = self._merge(torch.float64)
        plain = self.as_base_layer()
        plain.weight = nn.Parameter(weight.to(self.weight.dtype), self.weight.requires_grad)
        if bias is not None:
            requires_grad = self.weight.requires_grad if self.bias is None else self.bias.requires_grad
            plain.bias = nn.Parameter(bias.to(self.weight.dtype), requires_grad)
        return plain


class DenoiseLinear(_WeightLayer, nn.Linear):
    """Linear layer whose input (default) or output feature takes one denoising step."""

    plain_class = nn.Linear
    channel_dim = -1
    default_side = 'input'

    def _host_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    def _of_denoised_input(self, x: Tensor) -> Tensor:
        return F.linear(self._step(x), self.weight, self.bias)


class DenoiseConv2d(_WeightLayer, nn.Conv2d):
    """Convolution whose output (default) or padded input feature takes one denoising step; exact for any geometry."""

    plain_class = nn.Conv2d
    channel_dim = 1
    default_side = 'output'

    def _host_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self._conv_forward(x, weight, bias)

    def _of_denoised_input(self, x: Tensor) -> Tensor:
        mode = 'constant' if self.padding_mode == 'zeros' else self.padding_mode
        padded = self._step(F.pad(x, self._reversed_padding_repeated_twice, mode))
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)
