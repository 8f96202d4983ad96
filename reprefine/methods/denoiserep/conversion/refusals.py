"""Selections and settings that would not do what they say, refused in one line."""

import re
from collections.abc import Sequence

from mmengine.model import BaseAveragedModel
from torch import nn

from reprefine.deploy import Deployable
from reprefine.engine.errors import UserError
from reprefine.models.replaced_layer import ReplacedLayer

from ..layers.base import _DenoiseLayer
from .select import PRESETS, Candidate, walk, walk_layers

KINDS = (nn.Linear, nn.Conv2d)


def refuse_parts(model: nn.Module, include: str | Sequence[str]) -> None:
    """Refuse patterns that name nothing but parts of what is denoised as a whole.

    Args:
        model: Any module.
        include: Preset or regular expressions, as in :func:`~.select.find_layers`.

    Raises:
        UserError: If a pattern names only the inside of replaced layers, such as a branch or the gate of a PDConv, or
            of moving averages.
    """
    if isinstance(include, str) and include in PRESETS:
        return
    reached = [name for name, _, _, layer in walk_layers(model) if isinstance(layer, (*KINDS, ReplacedLayer))]
    layers = [name for name, _, _, layer in walk(model) if isinstance(layer, KINDS)]
    parts = [name for name in layers if name not in set(reached)]
    for pattern in [include] if isinstance(include, str) else include:
        named = next((name for name in parts if re.search(pattern, name)), None)
        if named is not None and not any(re.search(pattern, name) for name in reached):
            raise UserError(f'include={pattern!r} names {named}, {_whole(model, named)}')


def _whole(model: nn.Module, part: str) -> str:
    """Return what a part belongs to, and what to name instead."""
    parents = [part.rsplit('.', count)[0] for count in range(part.count('.'), 0, -1)]
    wholes = ((name, model.get_submodule(name)) for name in parents)
    name, whole = next((n, m) for n, m in wholes if isinstance(m, (ReplacedLayer, BaseAveragedModel)))
    if isinstance(whole, BaseAveragedModel):
        return f'a part of the moving average {name}, which follows the layers that it averages: name those'
    return f'a part of the {type(whole).__name__} {name}, which is denoised as one layer: name that'


def refuse_lost_biases(model: nn.Module, chosen: Sequence[Candidate]) -> None:
    """Refuse to add biases to layers that a host library folds by their weights alone.

    Args:
        model: Any module.
        chosen: Layers that are converted, each with a bias from then on.

    Raises:
        UserError: If there is such a layer.
    """
    inner = [(name, module) for name, module in model.named_modules() if name and isinstance(module, Deployable)]
    hosts = {name: module for name, module in inner if not type(module).__module__.startswith('reprefine.')}
    for candidate in chosen:
        holder = next((name for name in hosts if candidate.name.startswith(f'{name}.')), None)
        if holder is not None and getattr(candidate.layer, 'bias', 0) is None:
            kind = type(hosts[holder]).__name__
            raise UserError(
                f"bias_policy='add' gives {candidate.name} a bias, which {kind} leaves out when it is deployed: "
                "set bias_policy='keep'"
            )


def refuse_followers(model: nn.Module, setting: str, instead: str) -> None:
    """Refuse training without the task loss for a model whose momentum encoder follows in that loss alone.

    Args:
        model: Converted model.
        setting: What asks for it.
        instead: What to do.

    Raises:
        UserError: If layers of a momentum encoder are converted.
    """
    for name, layer in model.named_modules():
        if isinstance(layer, _DenoiseLayer) and layer.follows:
            raise UserError(
                f'{setting} computes no task loss, but only in that the momentum encoder follows, so that the '
                f'predictor of {name} would stay as it began: {instead}'
            )
