"""What all denoising layers share."""

from collections.abc import Callable
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from reprefine.engine.draw import draw

from .noise_predictor import Denoiser
from .prediction_loss import noise_prediction_loss
from .state import DenoiseState


class _DenoiseLayer(nn.Module):
    """What all denoising layers share; the class of the layer that is denoised, the host, is the last base class.

    Parameters keep the host's names, so that a baseline state dict lacks the keys of ``denoiser`` only.

    Attributes:
        follows: Whether the layer is that of a momentum encoder: its predictor is an average of another layer's, and
            learns nothing itself.
    """

    channel_dim: int
    default_side: str
    denoiser: Denoiser
    follows = False

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
        channels = self._channels()
        side = min((self.default_side, *channels), key=channels.get) if side == 'narrow' else side or self.default_side
        self.host_class, self.side, self.name = host_class, side, name
        self.loss_type, self.bias_noise = loss_type, bias_noise
        self.state = state or DenoiseState([name])
        constant = self._has_bias() or bias_policy == 'add'
        groups = getattr(self, 'groups', 1)
        self.denoiser = Denoiser(channels[side], timestep, groups, constant, side=side, **predictor)
        self.denoiser.to(next(self.parameters())).train(self.training)

    def _channels(self) -> dict[str, int]:
        """Return the width of the feature on each side that can be denoised."""
        raise NotImplementedError

    @property
    def output_channels(self) -> int:
        """Width of the layer's output."""
        return self._channels()['output']

    def _has_bias(self) -> bool:
        raise NotImplementedError

    def _plain_forward(self, x: Tensor) -> Tensor:
        """Return the host's output."""
        raise NotImplementedError

    def _denoised_forward(self, x: Tensor) -> Tensor:
        """Return the output with a denoised feature, differentiable in the host's parameters."""
        raise NotImplementedError

    def _evaluated_forward(self, x: Tensor) -> Tensor:
        """Return the output with a denoised feature, in evaluation."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer; which weights act and whether the noise loss is recorded depends on phase and mode."""
        if self.training or self.state.root_trains:  # a frozen part of the model is in evaluation mode
            return self._noise_learning_forward(x) if self.state.learns_noise else self._denoised_forward(x)
        if not self.state.denoise_eval:
            return self._plain_forward(x)
        return self._evaluated_forward(x)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; what was kept of the former one is forgotten.

        Args:
            mode: True for training, False for evaluation.
        """
        self.state.forget_mode()
        self.state.merged.forget(self)
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move or cast, as every such method of a module does; weights merged before are forgotten."""
        self.state.merged.forget(self)
        return super()._apply(fn, recurse)

    def _noise_learning_forward(self, x: Tensor) -> Tensor:
        is_joint, on_output = self.state.phase == 'joint', self.side == 'output'
        if not is_joint or on_output:
            plain = self._plain_forward(x)
        if not self.follows:
            self._record_noise_loss(plain if on_output else x)
        return self._denoised_forward(x) if is_joint else plain

    def _shift(self, dtype: torch.dtype, bias_noise: Tensor | None = None) -> Tensor | None:
        """Return what the denoising step adds to a feature, ``-c_e (D tau + d)``, and the stochastic term if given."""
        denoiser, step = self.denoiser, self.denoiser.step
        constant = denoiser.constant()
        shift = None if constant is None else -step.c_e * constant.to(dtype)
        if bias_noise is not None and shift is not None:
            shift = shift + step.bias_std * bias_noise.to(shift)
        return shift

    def _draw_bias_noise(self) -> Tensor | None:
        if not self.bias_noise:
            return None
        return self._randn((len(self.denoiser.weight),))

    def _randn(self, shape: tuple[int, ...], **options: Any) -> Tensor:
        return draw(torch.randn, shape, self.state.generator, device=self.denoiser.weight.device, **options)

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

    def as_base_layer(self) -> nn.Module:
        """Return a layer of the host's class that shares parameters and children with this one."""
        plain = self.host_class.__new__(self.host_class)
        plain.__dict__.update(_shallow_copy(self.__dict__))
        del plain._modules['denoiser']
        for name in ('host_class', 'side', 'name', 'loss_type', 'bias_noise', 'state', 'follows'):
            plain.__dict__.pop(name, None)
        return plain

    def fuse(self) -> nn.Module:
        """Return a new layer of the host's class that computes this layer's evaluation output exactly.

        Merged in at least float32, then cast. Device, dtype, ``requires_grad`` and training flag are kept; this layer
        is not modified.
        """
        raise NotImplementedError

    @torch.no_grad()
    def switch_to_deploy(self, *_: Any) -> None:
        """Become what :meth:`fuse` returns, in place, before a part that holds this layer folds by its weight.

        Args:
            _: What mmpose hands to every part that it deploys, not needed here.
        """
        self.state.thaw(self.parameters())
        plain = self.fuse()
        self.__class__ = type(plain)
        self.__dict__ = plain.__dict__


def _unchanged(tensor: Tensor) -> Tensor:
    return tensor


def _shallow_copy(attributes: dict[str, Any]) -> dict[str, Any]:
    """Copy a module's attributes so that the copy can gain and lose parameters, children and hooks of its own."""
    return {key: value.copy() if isinstance(value, dict) else value for key, value in attributes.items()}
