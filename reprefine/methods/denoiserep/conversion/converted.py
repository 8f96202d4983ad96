"""Converted models: their denoising layers, their noise loss, and their reparameterisation."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reprefine.engine.errors import UserError

from ..layers.base import DenoiseLayer
from ..layers.state import DenoiseState
from .momentum_encoders import update_averaged_parameters


@dataclass(frozen=True)
class ConvertedLayer:
    """One row of the report of :func:`convert`.

    Attributes:
        name: Qualified name of the layer.
        type: Name of the class of the base layer.
        timestep: ``T``; None if the layer was skipped, as for the next two.
        width: Number of channels of the predictor.
        side: ``'input'`` or ``'output'``.
        skipped: Reason why the layer was not converted, or None.
    """

    name: str
    type: str
    timestep: int | None
    width: int | None
    side: str | None
    skipped: str | None = None


class ConversionError(UserError):
    """The model is reparameterised already, or was never converted."""


def denoise_layers(model: nn.Module, with_momentum: bool = False) -> dict[str, DenoiseLayer]:
    """Return the denoising layers of a model by qualified name.

    Args:
        model: Converted model.
        with_momentum: Whether to include those of momentum encoders, whose predictors are moving averages.
    """
    layers = ((name, m) for name, m in model.named_modules() if isinstance(m, DenoiseLayer))
    return {name: layer for name, layer in layers if with_momentum or not layer.is_momentum_copy}


def report(model: nn.Module) -> list[ConvertedLayer]:
    """Return one row for each denoising layer of a converted model."""
    return [
        ConvertedLayer(
            name, layer.base_class.__name__, int(layer.denoiser.timestep), len(layer.denoiser.weight), layer.side
        )
        for name, layer in denoise_layers(model).items()
    ]


def is_converted(model: nn.Module) -> bool:
    """Return whether the model has denoising layers."""
    return bool(denoise_layers(model))


def is_reparameterized(model: nn.Module) -> bool:
    """Return whether :func:`reparameterize` made this model."""
    state = getattr(model, '_denoise_state', None)
    return state is not None and state.is_reparameterized


def denoise_state(model: nn.Module) -> DenoiseState:
    """Return the state that the denoising layers of a model share.

    Raises:
        ConversionError: If there are none.
    """
    if (state := getattr(model, '_denoise_state', None)) is not None and not state.is_reparameterized:
        return state  # without a walk over the modules, as every training iteration asks for it
    for layer in denoise_layers(model).values():
        return layer.state
    raise ConversionError(
        'the model has no denoising layer: convert it first; a reparameterised model cannot be reparameterised again'
    )


def noise_loss(model: nn.Module) -> Tensor:
    """Return the noise loss of the last forward pass, a scalar summed over layers, and clear it.

    Args:
        model: Converted model. Without a recorded loss the result is zero.

    Raises:
        UserError: If the layers ran outside of the forward pass of the model that was converted.
    """
    state = denoise_state(model)
    losses = state.pop_losses()
    if state.ran_outside_root and not losses:
        raise UserError(
            'the noise loss was computed by a part of the model alone (such as forward_features), and is lost: call '
            'the model that was converted, or convert that part'
        )
    return sum_losses(losses)


def sum_losses(losses: dict[str, Tensor]) -> Tensor:
    """Return the sum of the losses by layer, zero if there is none."""
    return torch.stack(list(losses.values())).sum() if losses else torch.zeros(())


def reparameterize(model: nn.Module, inplace: bool = False) -> nn.Module:
    """Replace every denoising layer by a base layer with merged weights: structure and cost of the baseline.

    Args:
        model: Converted model.
        inplace: Whether to reparameterise ``model`` itself or a copy of it.

    Returns:
        The reparameterised model. It computes what ``model`` computes in evaluation mode.

    Raises:
        ConversionError: If there is no denoising layer, e.g. because the model is reparameterised already.
    """
    state = denoise_state(model)
    if not inplace:
        model = copy.deepcopy(model)
        state = denoise_state(model)
    state.restore_requires_grad(model.parameters())
    for name, layer in denoise_layers(model, with_momentum=True).items():
        parent, _, attribute = name.rpartition('.')
        setattr(model.get_submodule(parent), attribute, layer.reparameterize())
    update_averaged_parameters(model)
    state.mark_reparameterized()
    return model


@contextmanager
def base_layers(model: nn.Module) -> Iterator[None]:
    """Put base layers without predictors in place of the denoising layers while the context is open.

    They share their parameters with the denoising layers, so that code which initialises or loads the weights of the
    base model finds its own structure.

    Args:
        model: Converted model.
    """
    replaced = []
    for name, layer in denoise_layers(model, with_momentum=True).items():
        parent, _, attribute = name.rpartition('.')
        replaced.append((model.get_submodule(parent), attribute, layer, layer.as_base_layer()))
    try:
        for parent, attribute, _, base in replaced:
            setattr(parent, attribute, base)
        yield
    finally:
        for parent, attribute, layer, base in replaced:
            layer._parameters = base._parameters  # some may have been replaced
            setattr(parent, attribute, layer)
