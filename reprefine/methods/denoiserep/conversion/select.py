"""Selection of the layers to convert."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mmengine.model import BaseAveragedModel
from torch import nn
from torch.nn.utils import parametrize

from reprefine.models.replaced_layer import ReplacedLayer

from ..layers.inspection import reads_weight

# Patterns of names to include and to exclude by preset. mmcv calls its MLP `ffn`; the input of Swin-V2's `cpb_mlp` is a
# table of coordinates, not a feature.
PRESETS = {
    'mlp': (r'(^|\.)(mlp|ffn)\.', None),
    'attn': (r'(^|\.)(\w*attn\w*|attention|w_msa)\.', r'cpb_mlp'),
    'linear': (r'', r'cpb_mlp'),
    'conv': (r'', None),
    'all': (r'', r'cpb_mlp'),
    'last': (r'', None),
}
_PRESET_TYPES = {'mlp': (nn.Linear,), 'attn': (nn.Linear,), 'linear': (nn.Linear,), 'conv': (nn.Conv2d,)}


@dataclass(frozen=True)
class Candidate:
    """A layer that a selection names.

    Attributes:
        name: Qualified name.
        parent: Module that holds the layer.
        attribute: Name of the layer in ``parent``.
        layer: The layer.
        skipped: Reason why it cannot be converted, or None.
    """

    name: str
    parent: nn.Module
    attribute: str
    layer: nn.Module
    skipped: str | None = None


def select_layers(
    model: nn.Module,
    include: str | Sequence[str] = 'mlp',
    exclude: str | Sequence[str] = (),
    types: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv2d),
) -> list[Candidate]:
    """Return the layers that a selection names, in registration order, including those that must be skipped.

    A layer that another method has replaced counts as the one layer that it replaces. Moving averages of parts of the
    model, such as MoCo's momentum encoder, are left out: see :mod:`.momentum_encoders`.

    Args:
        model: Any module.
        include: A preset (``'mlp'``, ``'attn'``, ``'linear'``, ``'conv'``, ``'all'``, ``'last'``) or regular
            expressions, one of which must be found in the qualified name.
        exclude: Regular expressions none of which may be found in the qualified name.
        types: Types of base layers to consider.
    """
    last_only = include == 'last'
    if isinstance(include, str) and include in PRESETS:
        types = tuple(t for t in types if t in _PRESET_TYPES.get(include, types))
        include, preset_exclude = PRESETS[include]
        exclude = [*_as_list(exclude), *_as_list(preset_exclude or ())]
    include, exclude = _as_list(include), _as_list(exclude)
    owners = Counter(id(p) for _, _, _, module in walk(model) for p in module.parameters(recurse=False))
    found = []
    for name, parent, attribute, layer in walk_layers(model):
        is_named = any(re.search(p, name) for p in include) and not any(re.search(p, name) for p in exclude)
        if issubclass(layer.replaced_type if isinstance(layer, ReplacedLayer) else type(layer), types) and is_named:
            is_tied = any(owners[id(p)] > 1 for p in layer.parameters(recurse=False))
            reason = 'its weight is tied to another layer' if is_tied else skip_reason(parent, attribute, layer)
            found.append(Candidate(name, parent, attribute, layer, reason))
    return [c for c in found if c.skipped is None][-1:] if last_only else found


def skip_reason(parent: nn.Module, attribute: str, layer: nn.Module) -> str | None:
    """Return the reason why a layer cannot be converted, or None if it can.

    Args:
        parent: Module that holds the layer.
        attribute: Name of the layer in ``parent``.
        layer: The layer.
    """
    if parametrize.is_parametrized(layer) or hasattr(layer, 'weight_g') or hasattr(layer, 'weight_u'):
        return 'its weight is parametrised'
    if isinstance(parent, nn.MultiheadAttention) or reads_weight(parent, attribute):
        return f'{type(parent).__name__} reads its weight instead of calling it'
    known = isinstance(layer, ReplacedLayer) or type(layer) in (nn.Linear, nn.Conv2d)
    if not known and type(layer).__module__ != 'mmcv.cnn.bricks.wrappers':
        return f'{type(layer).__name__} is a custom subclass of nn.Linear or nn.Conv2d'
    return None


def walk_layers(module: nn.Module) -> Iterator[tuple[str, nn.Module, str, nn.Module]]:
    """Yield what :func:`walk` does, except modules inside of replaced layers and moving averages.

    Args:
        module: Module whose children are walked.
    """
    return walk(module, lambda child: not isinstance(child, (ReplacedLayer, BaseAveragedModel)))


def walk(
    module: nn.Module, descend: Callable[[nn.Module], bool] = lambda child: True, prefix: str = ''
) -> Iterator[tuple[str, nn.Module, str, nn.Module]]:
    """Yield name, parent, attribute and child of every module below ``module``, depth first, shared ones repeatedly.

    Args:
        module: Module whose children are walked.
        descend: Whether to walk the modules inside of a child, too.
        prefix: Name of ``module``, with a final dot.
    """
    for attribute, child in module._modules.items():
        if child is None:
            continue
        name = f'{prefix}{attribute}'
        yield name, module, attribute, child
        if descend(child):
            yield from walk(child, descend, f'{name}.')


def _as_list(patterns: str | Sequence[str]) -> list[str]:
    return [patterns] if isinstance(patterns, str) else list(patterns)
