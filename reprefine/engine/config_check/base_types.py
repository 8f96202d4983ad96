"""Methods that a config applies to a model by ``base_type``: their options, and the base type."""

from collections.abc import Callable, Mapping, Set
from typing import Any

from reprefine.engine.errors import UserError

from .rules import type_name
from .schema import PLAIN, NodeSchema, always


def method_options(target: Callable | None) -> Mapping[str, Callable]:
    """Return the functions or classes that take the option dicts of a method, by key; empty without a ``base_type``.

    Args:
        target: The class or function that the ``type`` of a config names.
    """
    return getattr(target, 'config_options', {})


def get_base_type(target: Callable, node: Mapping, path: str) -> Any:
    """Return the ``base_type`` of a method in a config.

    Args:
        target: The method, which has ``config_options``.
        node: The dict whose ``type`` it is.
        path: Config path of the dict.

    Raises:
        UserError: If it is missing, with the dict as it should be, or is no type; or if the options are no dict.
    """
    for key in method_options(target):
        if not isinstance(node.get(key), Mapping | None):
            raise UserError(f'{path}.{key}: must be a dict, not {node[key]!r}')
    base = node.get('base_type')
    if base is None:
        from reprefine.models.refinement import missing_base_type_message

        raise UserError(
            f'{path}: {missing_base_type_message(type_name(node), next(iter(method_options(target))), node, path)}'
        )
    if not isinstance(base, str) and not callable(base):
        raise UserError(f'{path}.base_type: must be the name of a type, not {base!r}')
    return base


def describe_type(node: Mapping, path: str, accepted: Set[str]) -> str:
    """Return the type of a dict of a config for a message, with its base type; without a type, its path.

    Args:
        node: The dict.
        path: Its config path.
        accepted: The valid keys.
    """
    types = [node[key] for key in ('type', 'base_type') if key in node and key in accepted]
    return ' with base_type '.join(kind if isinstance(kind, str) else kind.__name__ for kind in types) or path


def refuse_nested_method(node: Mapping, base: Callable, path: str) -> None:
    """Refuse a base type that itself needs a base type.

    Args:
        node: Dict of the config with the ``base_type``.
        base: The class that it names.
        path: Config path of the dict.

    Raises:
        UserError: If it needs one.
    """
    if method_options(base):
        from reprefine.models.refinement import refined_base_type_message

        raise UserError(f'{path}.base_type: {refined_base_type_message(type_name(node), node["base_type"])}')


def option_schema(schema: NodeSchema, key: str, target: Callable | None) -> NodeSchema:
    """Return the schema of an entry beside a ``base_type``: of the options of the method, or ``schema``.

    Args:
        schema: Schema of the entry if it is no option of the method.
        key: Its key.
        target: The class that the ``type`` beside it names.
    """
    builder = method_options(target).get(key)
    if builder is None:
        return schema
    return NodeSchema(default=always(f'{builder.__module__}:{builder.__qualname__}'), children={'types': PLAIN})
