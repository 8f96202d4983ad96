"""State dict keys that belong to methods: parts that a method adds to a layer, and layers in a form of a method.

A module that a method adds to a layer, such as the noise predictor of a layer, has the class attribute
``added_by_refinement = True``. A checkpoint of the baseline lacks its keys. Names do not identify it: a baseline may
have a ``denoiser`` of its own.

A method whose layers have other keys than those of the baseline declares a pattern of them at the top level of one of
its modules, as ``FORM_KEYS = r'<pattern>'``. The declarations are read from the source, because a run of the baseline
does not import the method. The baseline would load such a checkpoint with a warning at most, and drop what the method
has trained.
"""

import re
from collections.abc import Collection
from functools import cache
from typing import Any

from torch import nn

from reprefine.engine.errors import UserError
from reprefine.registered import declared

from .load_trace import named_tensors


def is_added(module: nn.Module) -> bool:
    """Whether a method has added a module to a layer of a model."""
    return getattr(module, 'added_by_refinement', False)


def added_names(model: nn.Module) -> set[str]:
    """Return the names of the parameters and buffers that a method has added to a model.

    Args:
        model: The model; if it is an added module itself, its own names are not returned.
    """
    modules = model.named_modules(remove_duplicate=False)
    prefixes = tuple(f'{name}.' for name, module in modules if name and is_added(module))
    return {name for name, _ in named_tensors(model) if name.startswith(prefixes)}


def state_without_added(model: nn.Module) -> dict[str, Any]:
    """Return the state dict of a model without the keys that a method has added."""
    added = added_names(model)
    return {name: value for name, value in model.state_dict().items() if name not in added}


@cache
def form_keys() -> re.Pattern[str]:
    """Return the pattern of the keys that all methods declare as ``FORM_KEYS``."""
    patterns = declared('reprefine', 'FORM_KEYS')
    return re.compile('|'.join(f'(?:{pattern})' for pattern in patterns) or r'(?!)')


def refuse_other_form(unexpected: Collection[str], filename: str) -> None:
    """Refuse a checkpoint with layers in a form of a method that the model does not have.

    Args:
        unexpected: Keys of the file that the model lacks.
        filename: Name for the message.

    Raises:
        UserError: With the first key and the remedy.
    """
    names = [name for name in unexpected if form_keys().search(name)]
    if names:
        more = f' and {len(names) - 1} more' if len(names) > 1 else ''
        raise UserError(
            f'checkpoint {filename} holds layers in a form that the model does not have ({names[0]}{more}): give the '
            'config it was written with, or reparameterise it with tools/model_converters/reparameterize_model.py'
        )
