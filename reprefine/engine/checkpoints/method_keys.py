"""What a method has added to the layers of a model, which a file of the model without the method cannot hold.

The module of such an addition, for example the noise predictor of a layer, says so by a class attribute
``added_by_refinement = True``. Names tell nothing: a part may have a ``denoiser`` of its own.
"""

from typing import Any

from torch import nn

from .load_trace import named_tensors

ATTRIBUTE = 'added_by_refinement'


def is_added(module: nn.Module) -> bool:
    """Whether a method has added a module to a layer of a model."""
    return getattr(module, ATTRIBUTE, False)


def added_names(model: nn.Module) -> set[str]:
    """Return the names of the parameters and buffers below ``model`` that a method has added to it.

    An addition itself lacks nothing of its own: given as ``model``, its names are not returned.
    """
    modules = model.named_modules(remove_duplicate=False)
    prefixes = tuple(f'{name}.' for name, module in modules if name and is_added(module))
    return {name for name, _ in named_tensors(model) if name.startswith(prefixes)}


def state_without_added(model: nn.Module) -> dict[str, Any]:
    """Return the state dict of ``model`` without what a method has added, for a copy with additions of its own."""
    added = added_names(model)
    return {name: value for name, value in model.state_dict().items() if name not in added}
