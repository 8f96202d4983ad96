"""Methods that a config adds to a model by ``base_type``: whose arguments they take, and which options."""

from collections.abc import Callable, Mapping, Set
from typing import Any

from reprefine.engine.errors import UserError

from .rules import type_name
from .schema import PLAIN, Place, always


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
        UserError: If it has none, where the line says how to write it, or one that names no type; and if the options of
            the method are no dict.
    """
    for key in options_of(target):
        if not isinstance(node.get(key), Mapping | None):
            raise UserError(f'{path}.{key}: must be a dict, not {node[key]!r}')
    base = node.get('base_type')
    if base is None:
        from reprefine.models.refinement import flat_form

        raise UserError(f'{path}: {flat_form(type_name(node), next(iter(options_of(target))), node, path)}')
    if not isinstance(base, str) and not callable(base):
        raise UserError(f'{path}.base_type: must be the name of a type, not {base!r}')
    return base


def name_of_taker(node: Mapping, path: str, accepted: Set[str]) -> str:
    """Return what takes the entries of a dict of a config, for a message: its type, with its base type, or its path.

    Args:
        node: The dict.
        path: Its config path.
        accepted: The keys that may stand there.
    """
    kinds = [node[key] for key in ('type', 'base_type') if key in node and key in accepted]
    return ' with base_type '.join(kind if isinstance(kind, str) else kind.__name__ for kind in kinds) or path


def check_base(node: Mapping, base: Callable, path: str) -> None:
    """Refuse a method whose base type is a method of this kind itself.

    Args:
        node: Dict of the config that names the method.
        base: What its ``base_type`` names.
        path: Config path of the dict.

    Raises:
        UserError: If both need a base type.
    """
    if options_of(base):
        from reprefine.models.refinement import two_methods

        raise UserError(f'{path}.base_type: {two_methods(type_name(node), node["base_type"])}')


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
