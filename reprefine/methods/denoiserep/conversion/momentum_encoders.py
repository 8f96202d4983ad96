"""Layers of momentum encoders: moving averages of parts of a model, which are converted together with those parts."""

from collections.abc import Iterator, Sequence

import torch
from mmengine.model import BaseAveragedModel
from torch import nn

from reprefine.engine.errors import UserError

from ..layers.base import DenoiseLayer
from .select import Candidate, walk_layers


def find_momentum_layers(model: nn.Module, chosen: Sequence[Candidate]) -> list[tuple[Candidate, str]]:
    """Return the layers of moving averages in ``model`` that average a chosen layer, each with the name of that layer.

    A moving average, such as MoCo's key encoder, matches its parameters with those of its source by name but further
    buffers by order. A predictor in one of the two only would shift the buffers after it.

    Args:
        model: Any module.
        chosen: Layers to convert.

    Raises:
        UserError: If a moving average copies a part of the model that contains a chosen layer, but not that layer, or
            copies a submodule of a part.
    """
    found = []
    for name, averaged in _averaged_models(model):
        layers = list(_momentum_layers(name, averaged, chosen))
        if not layers:
            _check_no_submodule_copy(name, averaged.module, model, chosen)
        found += layers
    return found


def copy_predictor(momentum_layer: DenoiseLayer, source: DenoiseLayer) -> None:
    """Initialise the predictor of a momentum encoder's layer with that of its source, and exclude it from training.

    Args:
        momentum_layer: Layer of a moving average.
        source: Layer that it averages.
    """
    momentum_layer.is_momentum_copy = True
    momentum_layer.denoiser.load_state_dict(source.denoiser.state_dict())
    momentum_layer.denoiser.requires_grad_(False)


def update_averaged_parameters(model: nn.Module) -> None:
    """Update ``avg_parameters`` of the moving averages in ``model``, which mmengine sets only when it creates them.

    Args:
        model: Model whose layers have been replaced.
    """
    for _, averaged in _averaged_models(model):
        module = averaged.module
        averaged.avg_parameters = module.state_dict() if averaged.update_buffers else dict(module.named_parameters())


def _averaged_models(model: nn.Module) -> list[tuple[str, BaseAveragedModel]]:
    return [(name, part) for name, part in model.named_modules() if isinstance(part, BaseAveragedModel)]


def _check_no_submodule_copy(name: str, copied: nn.Module, model: nn.Module, chosen: Sequence[Candidate]) -> None:
    copies = [_shapes(part) for part in (copied, *copied.children())]
    for candidate in chosen:
        path = candidate.name.split('.')
        for end in range(2, len(path) + 1):
            part = '.'.join(path[:end])
            if _shapes(model.get_submodule(part)) in copies:
                raise UserError(
                    f"the moving average '{name}' copies '{part}', which is not a direct child of the model: leave its "
                    'layers out by `exclude`'
                )


def _momentum_layers(
    average: str, averaged: BaseAveragedModel, chosen: Sequence[Candidate]
) -> Iterator[tuple[Candidate, str]]:
    """Yield the layers of a moving average, which copies direct children of the model, and their sources.

    The source is the name of the chosen layer that a layer averages.
    """
    layers = {tuple(name.split('.')): location for name, *location in walk_layers(averaged.module)}
    children = {name[0] for name in layers} | {''}
    layers[()] = averaged, 'module', averaged.module
    copies: dict[str, tuple[str, ...]] = {}  # path in the average of the copy of each direct child of the model
    for candidate in chosen:
        child, *inner = candidate.name.split('.')
        paths = [path for path in _paths(inner, children) if _matches(layers.get(path), candidate.layer)]
        known = copies.get(child)
        paths = [path for path in paths if known is None or path[: len(path) - len(inner)] == known]
        if len(paths) != 1:
            if known is None and not paths:
                continue
            raise UserError(
                f"'{candidate.name}' matches {len(paths)} layers of the moving average '{average}': leave the "
                'layer out by `exclude`'
            )
        copies[child] = paths[0][: len(paths[0]) - len(inner)]
        parent, attribute, layer = layers[paths[0]]
        yield Candidate('.'.join((average, 'module', *paths[0])), parent, attribute, layer), candidate.name


def _paths(inner: Sequence[str], children: set[str]) -> Iterator[tuple[str, ...]]:
    """Yield the possible paths of a layer in a copy of one child of the model alone (``''``), or of several."""
    for child in children:
        yield (child, *inner) if child else tuple(inner)


def _matches(location: Sequence | None, layer: nn.Module) -> bool:
    """Return whether there is a layer of the same type and the same shapes at a location (parent, attribute, layer)."""
    if location is None or type(location[-1]) is not type(layer):
        return False
    return _shapes(location[-1]) == _shapes(layer)


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in module.named_parameters()}
