"""Layers of momentum encoders: moving averages of parts of the model, which must gain what those parts gain."""

from collections.abc import Iterator, Sequence

from mmengine.model import BaseAveragedModel
from torch import nn

from reprefine.engine.errors import UserError

from .layer import _DenoiseLayer
from .select import Candidate, walk_layers


def find_twins(model: nn.Module, chosen: Sequence[Candidate]) -> list[tuple[Candidate, str]]:
    """Return the layers of moving averages in ``model`` that average the chosen layers, with the names of these.

    Moving averages, such as MoCo's key encoder, pair their buffers with those of their source by order alone. A
    predictor on one side only would shift all pairs behind it.

    Args:
        model: Any module.
        chosen: Layers that are converted.

    Raises:
        UserError: If an average copies a part of the model that holds a chosen layer, but not that layer.
    """
    found = []
    for name, averaged in model.named_modules():
        if isinstance(averaged, BaseAveragedModel):
            found += _twins_in(f'{name}.module.', averaged.module, chosen)
    return found


def follow(twin: _DenoiseLayer, source: _DenoiseLayer) -> None:
    """Let the predictor of a twin begin as that of its source and learn nothing itself."""
    twin.follows = True
    twin.denoiser.load_state_dict(source.denoiser.state_dict())
    twin.denoiser.requires_grad_(False)


def renew_averages(model: nn.Module) -> None:
    """Let the moving averages in ``model`` average the parameters that they have now.

    They note their parameters when they are made; others would never follow their source.
    """
    for averaged in model.modules():
        if isinstance(averaged, BaseAveragedModel):
            module = averaged.module
            now = module.state_dict() if averaged.update_buffers else dict(module.named_parameters())
            averaged.avg_parameters.clear()
            averaged.avg_parameters.update(now)


def _twins_in(prefix: str, copied: nn.Module, chosen: Sequence[Candidate]) -> Iterator[tuple[Candidate, str]]:
    """Yield the twins inside of one average; ``copied`` is a copy of a part of the model, or of several in a row."""
    layers = {tuple(name.split('.')): place for name, *place in walk_layers(copied)}
    parts = {name[0] for name in layers} | {''}
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
                f"'{candidate.name}' has {len(twins)} counterparts in the moving average '{prefix[:-8]}': leave the "
                'layer out by `exclude`'
            )
        copies[part] = twins[0][: len(twins[0]) - len(inner)]
        parent, attribute, layer = layers[twins[0]]
        yield Candidate(prefix + '.'.join(twins[0]), parent, attribute, layer), candidate.name


def _paths(inner: Sequence[str], parts: set[str]) -> Iterator[tuple[str, ...]]:
    """Yield where a layer may be in a copy of its part alone (``''``), or of several parts."""
    for part in parts:
        yield (part, *inner) if part else tuple(inner)


def _alike(place: Sequence | None, layer: nn.Module) -> bool:
    if place is None or type(place[-1]) is not type(layer):
        return False
    shapes = [{name: p.shape for name, p in module.named_parameters()} for module in (place[-1], layer)]
    return shapes[0] == shapes[1]
