"""Layers of momentum encoders: moving averages of parts of the model, which must gain what those parts gain."""

from collections.abc import Iterator, Sequence

import torch
from mmengine.model import BaseAveragedModel
from torch import nn

from reprefine.engine.errors import UserError

from ..layers.base import _DenoiseLayer
from .select import Candidate, walk_layers


def find_twins(model: nn.Module, chosen: Sequence[Candidate]) -> list[tuple[Candidate, str]]:
    """Return the layers of moving averages in ``model`` that average the chosen layers, with the names of these.

    Moving averages, such as MoCo's key encoder, pair what they average with the same of their source by name, and the
    other buffers by order alone. A predictor on one side only would shift all pairs behind it.

    Args:
        model: Any module.
        chosen: Layers that are converted.

    Raises:
        UserError: If an average copies a part of the model that holds a chosen layer, but not that layer, or a part
            inside of a part.
    """
    found = []
    for name, averaged in _averages(model):
        twins = list(_twins_in(name, averaged, chosen))
        if not twins:
            _refuse_inner_part(name, averaged.module, model, chosen)
        found += twins
    return found


def follow(twin: _DenoiseLayer, source: _DenoiseLayer) -> None:
    """Let the predictor of a twin begin as that of its source and learn nothing itself.

    Args:
        twin: Layer of a moving average.
        source: Layer that it averages.
    """
    twin.follows = True
    twin.denoiser.load_state_dict(source.denoiser.state_dict())
    twin.denoiser.requires_grad_(False)


def list_anew(model: nn.Module) -> None:
    """Let moving averages inside of a model know its parameters, which they list once, when they are made.

    Args:
        model: Model whose layers have been replaced.
    """
    for _, averaged in _averages(model):
        module = averaged.module
        averaged.avg_parameters = module.state_dict() if averaged.update_buffers else dict(module.named_parameters())


def _averages(model: nn.Module) -> list[tuple[str, BaseAveragedModel]]:
    return [(name, part) for name, part in model.named_modules() if isinstance(part, BaseAveragedModel)]


def _refuse_inner_part(name: str, copied: nn.Module, model: nn.Module, chosen: Sequence[Candidate]) -> None:
    copies = [_shapes(part) for part in (copied, *copied.children())]
    for candidate in chosen:
        path = candidate.name.split('.')
        for end in range(2, len(path) + 1):
            part = '.'.join(path[:end])
            if _shapes(model.get_submodule(part)) in copies:
                raise UserError(
                    f"the moving average '{name}' copies '{part}', which is a part of a part: leave its layers out by "
                    '`exclude`'
                )


def _twins_in(
    average: str, averaged: BaseAveragedModel, chosen: Sequence[Candidate]
) -> Iterator[tuple[Candidate, str]]:
    """Yield the twins inside of one average, which is a copy of a part of the model, or of several parts."""
    layers = {tuple(name.split('.')): place for name, *place in walk_layers(averaged.module)}
    parts = {name[0] for name in layers} | {''}
    layers[()] = averaged, 'module', averaged.module
    copies = {}  # of each part of the model, the path in the average
    for candidate in chosen:
        part, *inner = candidate.name.split('.')
        twins = [path for path in _paths(inner, parts) if _alike(layers.get(path), candidate.layer)]
        known = copies.get(part)
        twins = [path for path in twins if known is None or path[: len(path) - len(inner)] == known]
        if len(twins) != 1:
            if known is None and not twins:
                continue
            raise UserError(
                f"'{candidate.name}' has {len(twins)} counterparts in the moving average '{average}': leave the "
                'layer out by `exclude`'
            )
        copies[part] = twins[0][: len(twins[0]) - len(inner)]
        parent, attribute, layer = layers[twins[0]]
        yield Candidate('.'.join((average, 'module', *twins[0])), parent, attribute, layer), candidate.name


def _paths(inner: Sequence[str], parts: set[str]) -> Iterator[tuple[str, ...]]:
    """Yield where a layer may be in a copy of its part alone (``''``), or of several parts."""
    for part in parts:
        yield (part, *inner) if part else tuple(inner)


def _alike(place: Sequence | None, layer: nn.Module) -> bool:
    if place is None or type(place[-1]) is not type(layer):
        return False
    return _shapes(place[-1]) == _shapes(layer)


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in module.named_parameters()}
