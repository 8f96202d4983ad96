"""Checks that the keys of every dict in a config are arguments of the class that is built from it.

The config is walked twice: first the arguments are read from the source of the classes, so that most errors are found
before the classes are imported; then from the imported classes.
"""

from collections.abc import Callable, Mapping
from pkgutil import resolve_name
from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope

from reprefine.engine.errors import UserError

from .base_types import describe_type, get_base_type, method_options, option_schema, refuse_nested_method
from .deprecated import rename_deprecated_keys
from .keys import check_top_level_keys
from .lookup import find_type, suggestion
from .schema import PLAIN, ROOT, NodeSchema
from .source_arguments import arguments_in_source, arguments_of_default
from .values import check_values

KeysOf = Callable[[Mapping, NodeSchema, str, str | None], frozenset[str] | None]
BUILDER_KEYS = frozenset({'type', '_scope_'})
# Built by mmengine and torch alone, and so checked before an OpenMMLab library has to be imported.
CHECKED_FIRST = ('train_cfg', 'val_cfg', 'test_cfg', 'randomness', 'auto_scale_lr', 'env_cfg', 'optim_wrapper')


def check_config(cfg: Config) -> None:
    """Refuse misspelt keys, unknown types, wrong constructor arguments and invalid values.

    Call it after the custom imports; the config's own ``default_scope`` is applied.

    Args:
        cfg: The parsed config; deprecated keys get their new names in place.

    Raises:
        UserError: With the config path of the first invalid key and the nearest valid name.
    """
    rename_deprecated_keys(cfg)
    check_top_level_keys(cfg)
    _check_keys(cfg, keys_in_source)
    check_values(cfg)
    _check_keys(cfg, accepted_keys)


def keys_in_source(node: Mapping, schema: NodeSchema, path: str, scope: str | None) -> frozenset[str] | None:
    """Return the valid keys of ``node`` as far as the source of its class determines them, else ``None``.

    As :func:`accepted_keys`, without importing the class.
    """
    kind, current = node.get('type'), DefaultScope.get_current_instance()
    if 'base_type' in node:
        return None
    if kind is None:
        default = schema.default(node)
        if default is None:
            return accepted_keys(node, schema, path, scope)
        arguments = arguments_of_default(default)
    elif isinstance(kind, str) and schema.registries:
        scope = scope or (current.scope_name if current else 'mmengine')
        arguments = arguments_in_source(kind, schema.registries, scope)
    else:
        return None
    return None if arguments is None else arguments | schema.extra | BUILDER_KEYS


def accepted_keys(node: Mapping, schema: NodeSchema, path: str, scope: str | None) -> frozenset[str] | None:
    """Return the valid keys of ``node``; its class is imported.

    Args:
        node: A dict of the config.
        schema: Schema of its position.
        path: Its config path.
        scope: The innermost ``_scope_``.

    Returns:
        The keys, or ``None`` if they cannot be determined. Of a dict that no class is built from, its own.

    Raises:
        UserError: Its ``type`` is unknown.
    """
    target = _target(node, schema, path, scope)
    if target is None:
        return frozenset(node) | schema.extra | (BUILDER_KEYS if schema.registries else frozenset())
    from .signatures import accepted_arguments

    own = method_options(target)
    if own:
        target = _base_target(target, node, schema, path, scope)
    arguments = accepted_arguments(target)
    if arguments is None:
        return None
    return arguments | ({'base_type', *own} if own else frozenset()) | schema.extra | BUILDER_KEYS


def _target(node: Mapping, schema: NodeSchema, path: str, scope: str | None) -> Callable | None:
    """Return the class or function that is called with the entries of ``node``."""
    kind = node.get('type')
    if kind is None:
        default = schema.default(node)
        return None if default is None else resolve_name(default)
    if isinstance(kind, str):
        return find_type(kind, schema.registries, scope, f'{path}.type') if schema.registries else None
    return kind if callable(kind) else None


def _base_target(target: Callable, node: Mapping, schema: NodeSchema, path: str, scope: str | None) -> Callable:
    """Return the class of the ``base_type``, which takes the arguments that are not options of the method."""
    base = get_base_type(target, node, path)
    found = find_type(base, schema.registries, scope, f'{path}.base_type') if isinstance(base, str) else base
    refuse_nested_method(node, found, path)
    return found


def child_schema(schema: NodeSchema, key: str, node: Mapping, path: str, scope: str | None) -> NodeSchema:
    """Return the schema of the entry ``key`` of ``node``, which may be the options of a method beside a base type."""
    inner = schema.child(key, node)
    return option_schema(inner, key, _target(node, schema, path, scope)) if 'base_type' in node else inner


def _check_keys(cfg: Config, keys_of: KeysOf) -> None:
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        for key, value in sorted(cfg.items(), key=lambda item: item[0] not in CHECKED_FIRST):
            _check(value, ROOT.child(key, cfg), key, None, keys_of)


def _check(node: Any, schema: NodeSchema, path: str, scope: str | None, keys_of: KeysOf) -> None:
    if schema is PLAIN:
        return
    if isinstance(node, list | tuple):
        for index, item in enumerate(node):
            _check(item, schema, f'{path}.{index}', scope, keys_of)
    elif isinstance(node, str) and schema.by_name and keys_of is accepted_keys:
        find_type(node, schema.registries, scope, path)
    elif isinstance(node, Mapping):
        _check_dict(node, schema, path, node.get('_scope_', scope), keys_of)


def _check_dict(node: Mapping, schema: NodeSchema, path: str, scope: str | None, keys_of: KeysOf) -> None:
    accepted = keys_of(node, schema, path, scope)
    if accepted is not None:
        for key in node:
            if key not in accepted:
                hint = suggestion(key, accepted - BUILDER_KEYS)
                raise UserError(
                    f"{path}.{key}: {describe_type(node, path, accepted)} takes no argument '{key}'; {hint}"
                )
    for key, value in node.items():
        _check(value, child_schema(schema, key, node, path, scope), f'{path}.{key}', scope, keys_of)
