"""Models whose layers denoise their features: what they hold, their noise loss, and folding them."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reprefine.engine.errors import UserError

from ..layers.base import _DenoiseLayer
from ..layers.state import DenoiseState
from .momentum_encoders import list_anew


@dataclass(frozen=True)
class ConvertedLayer:
    """One row of the report of :func:`convert`."""

    name: str
    type: str
    timestep: int | None
    width: int | None
    side: str | None
    skipped: str | None = None


class FusedModelError(UserError):
    """The model is folded already, or was never converted."""


def denoise_layers(model: nn.Module, with_twins: bool = False) -> dict[str, _DenoiseLayer]:
    """Return the denoising layers of a model by qualified name.

    Args:
        model: Converted model.
        with_twins: Whether to include those of momentum encoders, whose predictors are averages of the others'.
    """
    layers = ((name, m) for name, m in model.named_modules() if isinstance(m, _DenoiseLayer))
    return {name: layer for name, layer in layers if with_twins or not layer.follows}


def report(model: nn.Module) -> list[ConvertedLayer]:
    """Return one row for each denoising layer."""
    return [
        ConvertedLayer(
            name, layer.host_class.__name__, int(layer.denoiser.timestep), len(layer.denoiser.weight), layer.side
        )
        for name, layer in denoise_layers(model).items()
    ]


def is_converted(model: nn.Module) -> bool:
    """Whether the model has denoising layers."""
    return bool(denoise_layers(model))


def denoise_state(model: nn.Module) -> DenoiseState:
    """Return the state that the denoising layers of a model share.

    Raises:
        FusedModelError: If there are none.
    """
    if (state := getattr(model, '_denoise_state', None)) is not None and not state.is_fused:
        return state  # without a walk over the modules, as every training iteration asks for it
    for layer in denoise_layers(model).values():
        return layer.state
    raise FusedModelError('the model has no denoising layer: convert it first; a folded model cannot be folded again')


def noise_loss(model: nn.Module) -> Tensor:
    """Return the noise loss of the last forward pass, summed over layers, and forget it (zero if there was none).

    Raises:
        UserError: If the layers ran outside of the forward pass of the model that was converted.
    """
    state = denoise_state(model)
    losses = state.take()
    if state.ran_outside and not losses:
        raise UserError(
            'the noise loss was computed by a part of the model alone (such as forward_features), and is lost: call '
            'the model that was converted, or convert that part'
        )
    return sum_of(losses)


def sum_of(losses: dict[str, Tensor]) -> Tensor:
    """Return the sum of the losses by layer, zero if there is none."""
    return torch.stack(list(losses.values())).sum() if losses else torch.zeros(())


def fuse(model: nn.Module, inplace: bool = False) -> nn.Module:
    """Fold every denoiser into its layer and return the plain model: same structure, same cost as the baseline.

    Args:
        model: Converted model.
        inplace: Whether to fold ``model`` itself or a copy of it.

    Raises:
        FusedModelError: If there is nothing to fold, e.g. because the model is folded already.
    """
    state = denoise_state(model)
    if not inplace:
        model = copy.deepcopy(model)
        state = denoise_state(model)
    state.thaw(model.parameters())
    for name, layer in denoise_layers(model, with_twins=True).items():
        parent, _, attribute = name.rpartition('.')
        setattr(model.get_submodule(parent), attribute, layer.fuse())
    list_anew(model)
    state.end()
    return model


def is_fused(model: nn.Module) -> bool:
    """Whether :func:`fuse` made this model."""
    state = getattr(model, '_denoise_state', None)
    return state is not None and state.is_fused
