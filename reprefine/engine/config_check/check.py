"""Walk a config and refuse what its builders would not take.

It is walked twice: what can be refused by the source of the classes alone is, before any of them is imported.
"""

from collections.abc import Callable, Mapping
from pkgutil import resolve_name
from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope

from reprefine.engine.errors import UserError

from .deprecated import rename_keys
from .keys import check_top_level_keys
from .lookup import find_type, suggestion
from .refined import base_type_of, check_base, name_of_taker, options_of, place_of_options
from .schema import PLAIN, ROOT, Place
from .sources import arguments_in_source, arguments_of_default
from .values import check_values

KeysOf = Callable[[Mapping, Place, str, str | None], frozenset[str] | None]
BUILDER_KEYS = frozenset({'type', '_scope_'})
# What mmengine and torch build alone is checked before what a host library has to be imported for.
BUILT_FIRST = ('train_cfg', 'val_cfg', 'test_cfg', 'randomness', 'auto_scale_lr', 'env_cfg', 'optim_wrapper')


def check_config(cfg: Config) -> None:
    """Refuse misspelt keys, unknown types, wrong constructor arguments and values that no run could work with.

    Call it after the custom imports; the config's own ``default_scope`` is applied.

    Args:
        cfg: The parsed config; deprecated keys get their new names in place.

    Raises:
        UserError: One line with the config path of the first offending key and the nearest valid name.
    """
    rename_keys(cfg)
    check_top_level_keys(cfg)
    _check_keys(cfg, keys_in_source)
    check_values(cfg)
    _check_keys(cfg, accepted_keys)


def keys_in_source(node: Mapping, place: Place, path: str, scope: str | None) -> frozenset[str] | None:
    """Return the keys that may stand in ``node`` if the source of its class says so, else ``None``.

    Arguments and errors are those of :func:`accepted_keys`.
    """
    kind, current = node.get('type'), DefaultScope.get_current_instance()
    if 'base_type' in node:
        return None
    if kind is None:
        default = place.default(node)
        if default is None:
            return accepted_keys(node, place, path, scope)
        arguments = arguments_of_default(default)
    elif isinstance(kind, str) and place.registries:
        scope = scope or (current.scope_name if current else 'mmengine')
        arguments = arguments_in_source(kind, place.registries, scope)
    else:
        return None
    return None if arguments is None else arguments | place.extra | BUILDER_KEYS


def accepted_keys(node: Mapping, place: Place, path: str, scope: str | None) -> frozenset[str] | None:
    """Return the keys that may stand in ``node``; its class is imported.

    Args:
        node: A dict of the config.
        place: What kind of position it has.
        path: Its config path.
        scope: The innermost ``_scope_``.

    Returns:
        The keys, or ``None`` if they cannot be known. Of plain data, those that are there.

    Raises:
        UserError: Its ``type`` is unknown.
    """
    target = _target(node, place, path, scope)
    if target is None:
        return frozenset(node) | place.extra | (BUILDER_KEYS if place.registries else frozenset())
    from .signatures import accepted_arguments

    own = options_of(target)
    if own:
        target = _base_target(target, node, place, path, scope)
    arguments = accepted_arguments(target)
    return (
        None
        if arguments is None
        else arguments | ({'base_type', *own} if own else frozenset()) | place.extra | BUILDER_KEYS
    )


def _target(node: Mapping, place: Place, path: str, scope: str | None) -> Callable | None:
    """Return the class or function that is called with the entries of ``node``."""
    kind = node.get('type')
    if kind is None:
        default = place.default(node)
        return None if default is None else resolve_name(default)
    if isinstance(kind, str):
        return find_type(kind, place.registries, scope, f'{path}.type') if place.registries else None
    return kind if callable(kind) else None


def _base_target(target: Callable, node: Mapping, place: Place, path: str, scope: str | None) -> Callable:
    """Return the class that takes the arguments which a method leaves to its base type."""
    base = base_type_of(target, node, path)
    found = find_type(base, place.registries, scope, f'{path}.base_type') if isinstance(base, str) else base
    check_base(node, found, path)
    return found


def child_place(place: Place, key: str, node: Mapping, path: str, scope: str | None) -> Place:
    """Return the place of the entry ``key`` of ``node``, whose ``type`` may add options of its own to a base type."""
    inner = place.child(key, node)
    return place_of_options(inner, key, _target(node, place, path, scope)) if 'base_type' in node else inner


def _check_keys(cfg: Config, keys_of: KeysOf) -> None:
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        for key, value in sorted(cfg.items(), key=lambda item: item[0] not in BUILT_FIRST):
            _check(value, ROOT.child(key, cfg), key, None, keys_of)


def _check(node: Any, place: Place, path: str, scope: str | None, keys_of: KeysOf) -> None:
    if place is PLAIN:
        return
    if isinstance(node, list | tuple):
        for index, item in enumerate(node):
            _check(item, place, f'{path}.{index}', scope, keys_of)
    elif isinstance(node, str) and place.by_name and keys_of is accepted_keys:
        find_type(node, place.registries, scope, path)
    elif isinstance(node, Mapping):
        _check_dict(node, place, path, node.get('_scope_', scope), keys_of)


def _check_dict(node: Mapping, place: Place, path: str, scope: str | None, keys_of: KeysOf) -> None:
    accepted = keys_of(node, place, path, scope)
    if accepted is not None:
        for key in node:
            if key not in accepted:
                hint = suggestion(key, accepted - BUILDER_KEYS)
                raise UserError(
                    f"{path}.{key}: {name_of_taker(node, path, accepted)} takes no argument '{key}'; {hint}"
                )
    for key, value in node.items():
        _check(value, child_place(place, key, node, path, scope), f'{path}.{key}', scope, keys_of)
