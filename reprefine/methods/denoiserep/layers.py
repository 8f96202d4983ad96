"""Linear and convolution layers with a denoiser that folds into their weight."""

from collections.abc import Callable
from functools import partial
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from reprefine.engine.draw import draw

from .denoiser import Denoiser
from .functional import merge_input_side, merge_output_side
from .prediction_loss import noise_prediction_loss
from .state import DenoiseState


class _DenoiseLayer(nn.Module):
    """What :class:`DenoiseLinear` and :class:`DenoiseConv2d` share; the host layer is the second base class.

    ``weight`` and ``bias`` keep the host's names, so that a baseline state dict lacks the keys of ``denoiser`` only.
    """

    plain_class: type[nn.Module]
    channel_dim: int
    default_side: str
    denoiser: Denoiser

    def __init__(self, *args: Any, denoise: dict[str, Any], **kwargs: Any) -> None:
        """Build host and denoiser; ``denoise`` holds the arguments of :meth:`_attach`, the rest is the host's."""
        super().__init__(*args, **kwargs)
        self._attach(self.plain_class, **denoise)

    @classmethod
    def from_host(cls, host: nn.Module, **options: Any) -> Self:
        """Turn a plain layer into a denoising one around the *same* parameters.

        Args:
            host: Plain layer of the matching class; it is left as it is.
            **options: Arguments of :meth:`_attach`.
        """
        layer = cls.__new__(cls)
        layer.__dict__.update(_shallow_copy(host.__dict__))
        layer._attach(type(host), **options)
        return layer

    def _attach(
        self,
        host_class: type[nn.Module],
        timestep: int,
        side: str | None = None,
        name: str = 'layer',
        state: DenoiseState | None = None,
        loss_type: str = 'l1+l2',
        bias_policy: str = 'keep',
        bias_noise: bool = False,
        **predictor: Any,
    ) -> None:
        groups = getattr(self, 'groups', 1)
        channels = {'input': self.weight.shape[1] * groups, 'output': self.weight.shape[0]}
        side = min((self.default_side, *channels), key=channels.get) if side == 'narrow' else side or self.default_side
        self.host_class, self.side, self.name = host_class, side, name
        self.loss_type, self.bias_noise = loss_type, bias_noise
        self.state = state or DenoiseState([name])
        constant = self.bias is not None or bias_policy == 'add'
        self.denoiser = Denoiser(channels[side], timestep, groups, constant, side=side, **predictor).to(self.weight)
        self.denoiser.train(self.training)

    def _host_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        raise NotImplementedError

    def _merge(self, dtype: torch.dtype, bias_noise: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        denoiser, step = self.denoiser, self.denoiser.step
        with torch.no_grad():  # the predictor learns from the noise loss alone
            constant = denoiser.constant()
            shift = None if constant is None else -step.c_e * constant.to(dtype)
            if bias_noise is not None and shift is not None:
                shift = shift + step.bias_std * bias_noise.to(shift)
            predictor = denoiser.weight.detach().to(dtype)  # `to` alone may return the parameter itself
        merge = merge_input_side if self.side == 'input' else merge_output_side
        bias = None if self.bias is None else self.bias.to(dtype)
        return merge(self.weight.to(dtype), bias, predictor, shift, step)

    def effective_weight_bias(self, bias_noise: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the merged weight and bias, differentiable in the host's own.

        Computed in at least float32 and cast to the host's type at the end.

        Args:
            bias_noise: Standard normal draw ``z`` of the predictor's width for the stochastic reverse step, or None.
        """
        with torch.autocast(self.weight.device.type, enabled=False):
            weight, bias = self._merge(torch.promote_types(self.weight.dtype, torch.float32), bias_noise)
        return weight.to(self.weight.dtype), None if bias is None else bias.to(self.weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer; which weights act and whether the noise loss is recorded depends on phase and mode."""
        if self.training and self.state.learns_noise:
            return self._noise_learning_forward(x)
        if self.training:
            return self._host_forward(x, *self.effective_weight_bias(bias_noise=self._draw_bias_noise()))
        if not self.state.denoise_eval:
            return self._host_forward(x, self.weight, self.bias)
        return self._host_forward(x, *self.state.merged.of(self))

    def train(self, mode: bool = True) -> Self:
        """Set the mode; weights merged before are forgotten.

        Args:
            mode: True for training, False for evaluation.
        """
        self.state.forget_modules()
        self.state.merged.forget(self)
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move or cast, as every such method of a module does; weights merged before are forgotten."""
        self.state.merged.forget(self)
        return super()._apply(fn, recurse)

    def _noise_learning_forward(self, x: Tensor) -> Tensor:
        is_joint, on_output = self.state.phase == 'joint', self.side == 'output'
        if not is_joint or on_output:
            plain = self._host_forward(x, self.weight, self.bias)
        self._record_noise_loss(plain if on_output else x)
        if not is_joint:
            return plain
        return self._host_forward(x, *self.effective_weight_bias(bias_noise=self._draw_bias_noise()))

    def _draw_bias_noise(self) -> Tensor | None:
        if not self.bias_noise:
            return None
        return self._randn((len(self.denoiser.weight),))

    def _randn(self, shape: tuple[int, ...], **options: Any) -> Tensor:
        return draw(torch.randn, shape, self.state.generator, device=self.weight.device, **options)

    def _record_noise_loss(self, feature: Tensor) -> None:
        """Record the noise loss of this call; works under ``no_grad``, and in float32 under autocast.

        Its graph keeps its own tensors: activation checkpointing would otherwise recompute the feature after the
        forward pass, when the frozen host's norms and dropout are no longer paused.
        """
        with (
            torch.enable_grad(),
            torch.autocast(feature.device.type, enabled=False),
            saved_tensors_hooks(_unchanged, _unchanged),
        ):
            wide = torch.promote_types(feature.dtype, torch.float32)
            feature = feature.detach().to(wide)
            draw = partial(self._randn, dtype=wide)
            constant = self.denoiser.constant()
            loss = noise_prediction_loss(
                feature,
                draw,
                self.denoiser.weight.to(wide),
                None if constant is None else constant.to(wide),
                self.denoiser.step,
                self.loss_type,
                self.channel_dim,
            )
        self.state.record(self.name, loss, feature.numel())

    @torch.no_grad()
    def fuse(self) -> nn.Module:
        """Return a new plain layer of the host's class that computes this layer's evaluation output exactly.

        Merged in float64, then cast. Device, dtype, ``requires_grad`` and training flag are kept; this layer is not
        modified.
        """
        weight, bias = self._merge(torch.float64)
        plain = self.host_class.__new__(self.host_class)
        plain.__dict__.update(_shallow_copy(self.__dict__))
        del plain._modules['denoiser']
        for name in ('host_class', 'side', 'name', 'loss_type', 'bias_noise', 'state'):
            del plain.__dict__[name]
        plain.weight = nn.Parameter(weight.to(self.weight.dtype), self.weight.requires_grad)
        if bias is not None:
            requires_grad = self.weight.requires_grad if self.bias is None else self.bias.requires_grad
            plain.bias = nn.Parameter(bias.to(self.weight.dtype), requires_grad)
        return plain


class DenoiseLinear(_DenoiseLayer, nn.Linear):
    """Linear layer whose input (default) or output feature takes one denoising step."""

    plain_class = nn.Linear
    channel_dim = -1
    default_side = 'input'

    def _host_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)


class DenoiseConv2d(_DenoiseLayer, nn.Conv2d):
    """Convolution whose output (default) or padded input feature takes one denoising step; exact for any geometry."""

    plain_class = nn.Conv2d
    channel_dim = 1
    default_side = 'output'

    def _host_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self._conv_forward(x, weight, bias)


def _unchanged(tensor: Tensor) -> Tensor:
    return tensor


def _shallow_copy(attributes: dict[str, Any]) -> dict[str, Any]:
    """Copy a module's attributes so that the copy can gain and lose parameters, children and hooks of its own."""
    return {key: value.copy() if isinstance(value, dict) else value for key, value in attributes.items()}
