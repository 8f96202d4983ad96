"""Base class of the layers with a noise predictor: phases, noise loss, reparameterisation."""

from collections.abc import Callable
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from reprefine.engine.draw import draw

from .noise_predictor import NoisePredictor
from .prediction_loss import noise_prediction_loss
from .state import DenoiseState


class DenoiseLayer(nn.Module):
    """Mixin that adds a noise predictor to a layer; the class of that base layer is the last base class.

    Parameters keep the names of the base layer, so that a baseline state dict lacks the keys of the predictor only.

    Attributes:
        base_class: Class of the base layer.
        channel_dim: Axis of the channels of the denoised feature, -1 or 1.
        default_side: ``'input'`` or ``'output'``: the feature that is denoised unless another side is set.
        denoiser: The noise predictor. The name of the attribute is part of the keys of published checkpoints.
        is_momentum_copy: Whether the layer belongs to a momentum encoder: its predictor is a moving average of another
            layer's and is not trained itself.
    """

    base_class: type[nn.Module]
    channel_dim: int
    default_side: str
    denoiser: NoisePredictor
    is_momentum_copy = False

    @classmethod
    def from_base_layer(cls, base: nn.Module, **options: Any) -> Self:
        """Return a denoising layer that shares the parameters of a base layer.

        Args:
            base: Layer of the matching class; it is not modified.
            **options: Arguments of :meth:`_attach`.
        """
        layer = cls.__new__(cls)
        layer.__dict__.update(_shallow_copy(base.__dict__))
        layer._attach(type(base), **options)
        return layer

    def _attach(
        self,
        base_class: type[nn.Module],
        timestep: int,
        side: str | None = None,
        name: str = 'layer',
        state: DenoiseState | None = None,
        loss_type: str = 'l1+l2',
        bias_policy: str = 'keep',
        bias_noise: bool = False,
        **predictor: Any,
    ) -> None:
        """Add the noise predictor; see :func:`~..conversion.convert.convert` for the options.

        Args:
            base_class: Class of the base layer.
            timestep: ``T``, 0-based index of the noise schedule.
            side: ``'input'``, ``'output'`` or ``'narrow'``; None for ``default_side``.
            name: Qualified name of the layer, under which its noise loss is recorded.
            state: State of the model; None for one of the layer's own.
            loss_type: Type of the noise loss.
            bias_policy: Whether a layer without bias gets a predictor with a constant.
            bias_noise: Whether training adds the stochastic term of the reverse step.
            **predictor: Further arguments of :class:`~.noise_predictor.NoisePredictor`.
        """
        channels = self._channels()
        side = min((self.default_side, *channels), key=channels.get) if side == 'narrow' else side or self.default_side
        self.base_class, self.side, self.name = base_class, side, name
        self.loss_type, self.bias_noise = loss_type, bias_noise
        self.state = state or DenoiseState([name])
        constant = self._has_bias() or bias_policy == 'add'
        groups = getattr(self, 'groups', 1)
        self.denoiser = NoisePredictor(channels[side], timestep, groups, constant, side=side, **predictor)
        self.denoiser.to(next(self.parameters())).train(self.training)

    def _channels(self) -> dict[str, int]:
        """Return the number of channels of the feature on each side that can be denoised."""
        raise NotImplementedError

    @property
    def output_channels(self) -> int:
        """Number of channels of the layer's output."""
        return self._channels()['output']

    def _has_bias(self) -> bool:
        raise NotImplementedError

    def _base_forward(self, x: Tensor) -> Tensor:
        """Return the output of the base layer."""
        raise NotImplementedError

    def _denoised_forward(self, x: Tensor) -> Tensor:
        """Return the output with a denoised feature in training, differentiable in the base layer's parameters."""
        raise NotImplementedError

    def _evaluated_forward(self, x: Tensor) -> Tensor:
        """Return the output with a denoised feature in evaluation."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer; phase and mode decide whether it denoises and whether it records the noise loss.

        Args:
            x: Input of the base layer.
        """
        if self.training or self.state.root_is_training:  # a frozen part of the model is in evaluation mode
            return self._predictor_training_forward(x) if self.state.trains_predictors else self._denoised_forward(x)
        if not self.state.denoise_eval:
            return self._base_forward(x)
        return self._evaluated_forward(x)

    def train(self, mode: bool = True) -> Self:
        """Set the mode and discard the cached merged weights.

        Args:
            mode: True for training, False for evaluation.
        """
        self.state.on_mode_change()
        self.state.merged.discard(self)
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move or cast the layer as ``nn.Module`` does, and discard its cached merged weights."""
        self.state.merged.discard(self)
        return super()._apply(fn, recurse)

    def _predictor_training_forward(self, x: Tensor) -> Tensor:
        is_joint, on_output = self.state.phase == 'joint', self.side == 'output'
        if not is_joint or on_output:
            output = self._base_forward(x)
        if not self.is_momentum_copy:
            self._record_noise_loss(output if on_output else x)
        return self._denoised_forward(x) if is_joint else output

    def _shift(self, dtype: torch.dtype, bias_noise: Tensor | None = None) -> Tensor | None:
        """Return the constant that the denoising step adds to a feature, ``-c_e (D tau + d)``, shape ``[C]``.

        Args:
            dtype: Data type of the result.
            bias_noise: Noise ``z``, shape ``[C]``, of the stochastic term, which is added; None for no such term.
        """
        step, constant = self.denoiser.step, self.denoiser.constant()
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
        """Compute the noise loss of this call and record it in the state, also under ``no_grad``.

        Computed in at least float32, under autocast too. The graph saves its tensors itself: activation checkpointing
        would otherwise recompute the feature in the backward pass, when norms and dropout of the frozen base model are
        in training mode again.
        """
        with (
            torch.enable_grad(),
            torch.autocast(feature.device.type, enabled=False),
            saved_tensors_hooks(_identity, _identity),
        ):
            wide = torch.promote_types(feature.dtype, torch.float32)
            feature = feature.detach().to(wide)
            constant = self.denoiser.constant()
            loss = noise_prediction_loss(
                feature,
                partial(self._randn, dtype=wide),
                self.denoiser.weight.to(wide),
                None if constant is None else constant.to(wide),
                self.denoiser.step,
                self.loss_type,
                self.channel_dim,
            )
        self.state.record(self.name, loss, feature.numel())

    def as_base_layer(self) -> nn.Module:
        """Return the base layer without predictor, which shares parameters and children with this layer."""
        base = self.base_class.__new__(self.base_class)
        base.__dict__.update(_shallow_copy(self.__dict__))
        del base._modules['denoiser']
        for name in ('base_class', 'side', 'name', 'loss_type', 'bias_noise', 'state', 'is_momentum_copy'):
            base.__dict__.pop(name, None)
        return base

    def reparameterize(self) -> nn.Module:
        """Return a new layer of the base class that computes this layer's output in evaluation.

        Device, dtype, ``requires_grad`` and training flag are kept; this layer is not modified.
        """
        raise NotImplementedError

    @torch.no_grad()
    def switch_to_deploy(self, *_: Any) -> None:
        """Become in place what :meth:`reparameterize` returns.

        This runs before the ``switch_to_deploy`` of a parent that reads this layer's weight, such as a RepVGG block.

        Args:
            _: Arguments that mmpose passes to every ``switch_to_deploy``; not used.
        """
        self.state.restore_requires_grad(self.parameters())
        base = self.reparameterize()
        self.__class__ = type(base)
        self.__dict__ = base.__dict__


def _identity(tensor: Tensor) -> Tensor:
    return tensor


def _shallow_copy(attributes: dict[str, Any]) -> dict[str, Any]:
    """Copy a module's attributes, including the dicts of parameters, children and hooks but not their values."""
    return {key: value.copy() if isinstance(value, dict) else value for key, value in attributes.items()}
