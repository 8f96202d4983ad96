"""Methods that a config adds to a model by ``base_type``: whose arguments they take, and which options."""

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import UserError
from .places import PLAIN, Place, always


def options_of(target: Callable | None) -> Mapping[str, Callable]:
    """Return what takes the dicts of a method's own options, by their key; empty unless it needs a ``base_type``.

    Args:
        target: What the ``type`` of a config names.
    """
    return getattr(target, 'config_options', {})


def base_type_of(target: Callable, node: Mapping, path: str) -> Any:
    """Return the ``base_type`` that a method in a config is applied to.

    Args:
        target: The method, which has ``config_options``.
        node: Dict of the config that names it.
        path: Config path of the dict.

    Raises:
        UserError: If it has none; the line says how to write it.
    """
    if 'base_type' in node:
        return node['base_type']
    from reprefine.models.refinement import flat_form

    raise UserError(f'{path}: {flat_form(target.__name__, next(iter(options_of(target))), node)}')


def place_of_options(place: Place, key: str, target: Callable | None) -> Place:
    """Return the place of a dict of a method's own options.

    Args:
        place: Where the dict would stand otherwise.
        key: Its key.
        target: What the ``type`` beside it names.
    """
    taker = options_of(target).get(key)
    if taker is None:
        return place
    return Place(default=always(f'{taker.__module__}:{taker.__qualname__}'), children={'types': PLAIN})
