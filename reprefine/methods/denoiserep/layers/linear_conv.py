"""Linear and convolution layers with a noise predictor."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..functional import merge_input_side, merge_output_side, predict_noise
from .base import DenoiseLayer


class _WeightLayer(DenoiseLayer):
    """A denoising layer with a single weight, into which the denoising step is merged."""

    weight: Tensor

    def __init__(self, *args: Any, denoise: dict[str, Any], **kwargs: Any) -> None:
        """Build the base layer and the predictor.

        Args:
            *args: Arguments of the base layer.
            denoise: Arguments of :meth:`_attach`.
            **kwargs: Arguments of the base layer.
        """
        super().__init__(*args, **kwargs)
        self._attach(self.base_class, **denoise)

    def _channels(self) -> dict[str, int]:
        return {'input': self.weight.shape[1] * getattr(self, 'groups', 1), 'output': self.weight.shape[0]}

    def _has_bias(self) -> bool:
        return self.bias is not None

    def _forward_with(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the output of the base layer with the given weight and bias."""
        raise NotImplementedError

    def _base_forward(self, x: Tensor) -> Tensor:
        return self._forward_with(x, self.weight, self.bias)

    def _denoised_forward(self, x: Tensor) -> Tensor:
        return self._forward_with(x, *self.effective_weight_bias(bias_noise=self._draw_bias_noise()))

    def _evaluated_forward(self, x: Tensor) -> Tensor:
        return self._forward_with(x, *self.state.merged.get(self))

    def explicit_output(self, x: Tensor) -> Tensor:
        """Return the output in evaluation without merged weights: the denoising step and the base layer one by one.

        Args:
            x: Input of the base layer.
        """
        return self._denoise(self._base_forward(x)) if self.side == 'output' else self._denoise_input(x)

    def _denoise(self, feature: Tensor) -> Tensor:
        step, constant = self.denoiser.step, self.denoiser.constant()
        return step.c_x * feature - step.c_e * predict_noise(feature, self.denoiser.weight, constant, self.channel_dim)

    def _denoise_input(self, x: Tensor) -> Tensor:
        """Return the output of the base layer for the denoised input."""
        raise NotImplementedError

    def _merge(self, dtype: torch.dtype, bias_noise: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        with torch.no_grad():  # the predictor is trained by the noise loss alone
            shift = self._shift(dtype, bias_noise)
            predictor = self.denoiser.weight.detach().to(dtype)  # `to` alone may return the parameter itself
        merge = merge_input_side if self.side == 'input' else merge_output_side
        bias = None if self.bias is None else self.bias.to(dtype)
        return merge(self.weight.to(dtype), bias, predictor, shift, self.denoiser.step)

    def effective_weight_bias(self, bias_noise: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the merged weight and bias, differentiable in weight and bias of the base layer.

        Computed in at least float32 and then cast to the dtype of the weight.

        Args:
            bias_noise: Standard normal noise ``z`` ``[C]`` of the stochastic reverse step, or None.
        """
        with torch.autocast(self.weight.device.type, enabled=False):
            weight, bias = self._merge(torch.promote_types(self.weight.dtype, torch.float32), bias_noise)
        return weight.to(self.weight.dtype), None if bias is None else bias.to(self.weight.dtype)

    @torch.no_grad()
    def reparameterize(self) -> nn.Module:
        """Return a new layer of the base class with the merged weight, computed in float64 and then cast.

        Device, dtype, ``requires_grad`` and training flag are kept; this layer is not modified.
        """
        weight, bias = self._merge(torch.float64)
        base = self.as_base_layer()
        base.weight = nn.Parameter(weight.to(self.weight.dtype), self.weight.requires_grad)
        if bias is not None:
            requires_grad = self.weight.requires_grad if self.bias is None else self.bias.requires_grad
            base.bias = nn.Parameter(bias.to(self.weight.dtype), requires_grad)
        return base


class DenoiseLinear(_WeightLayer, nn.Linear):
    """Linear layer whose input (default) or output feature is denoised by one reverse step."""

    base_class = nn.Linear
    channel_dim = -1
    default_side = 'input'

    def _forward_with(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    def _denoise_input(self, x: Tensor) -> Tensor:
        return F.linear(self._denoise(x), self.weight, self.bias)


class DenoiseConv2d(_WeightLayer, nn.Conv2d):
    """Convolution whose output (default) or padded input feature is denoised by one reverse step.

    The merge is exact for every kernel size, stride, padding, dilation and number of groups.
    """

    base_class = nn.Conv2d
    channel_dim = 1
    default_side = 'output'

    def _forward_with(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self._conv_forward(x, weight, bias)

    def _denoise_input(self, x: Tensor) -> Tensor:
        mode = 'constant' if self.padding_mode == 'zeros' else self.padding_mode
        padded = self._denoise(F.pad(x, self._reversed_padding_repeated_twice, mode))
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)
