"""Deprecated settings, arguments and types of configs: each keeps working for one release with a ``FutureWarning``.

The module of a type whose argument was renamed declares ``DEPRECATED_ARGUMENTS = {'TheType': {'old': 'new'}}`` at its
top level, and decorates the constructor (or the function) with :func:`deprecated_arguments`. That of a renamed type
declares ``DEPRECATED_TYPES = {'OldType': 'NewType'}``.
"""

import functools
import operator
import warnings
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from mmengine.config import Config

from reprefine.engine.errors import UserError
from reprefine.registered import declared

SCOPE = 'reprefine.'
# Dotted path of a setting in a config, without lists -> the new name of its last part.
SETTINGS = {'load_floor': 'min_load_ratio', 'max_corrupt': 'max_corrupt_samples'}


@functools.cache
def get_renamed_arguments() -> dict[str, dict[str, str]]:
    """Return new argument names by registered type and deprecated name, as the modules of the package declare them."""
    return functools.reduce(operator.or_, declared('reprefine', 'DEPRECATED_ARGUMENTS'), {})


@functools.cache
def get_renamed_types() -> dict[str, str]:
    """Return new names of registered types by deprecated ones, without the scope."""
    return functools.reduce(operator.or_, declared('reprefine', 'DEPRECATED_TYPES'), {})


def rename_deprecated_keys(cfg: Config | MutableMapping) -> None:
    """Replace the deprecated names in a config, in place.

    Args:
        cfg: A config, or the dict that it holds.

    Raises:
        UserError: If a deprecated key and the new one are both given.
    """
    root = cfg._cfg_dict if isinstance(cfg, Config) else cfg
    for setting, new in SETTINGS.items():
        *parents, old = setting.split('.')
        node = functools.reduce(_entry, parents, root)
        if isinstance(node, Mapping):
            _rename(node, {old: new}, '.'.join(parents))
    _rename_below(root, '')


def rename_deprecated_options(cfg: Config, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``--cfg-options`` with the new names of deprecated keys.

    Args:
        cfg: The config that they change, itself without deprecated names.
        options: Values by dotted path; a leading plus is kept.

    Raises:
        UserError: If a deprecated key and the new one are both given.
    """
    renamed = dict(options)
    for option in options:
        plus, path = option[: option.startswith('+')], option.removeprefix('+')
        *parents, old = path.split('.')
        new = SETTINGS.get(path) or _arguments_of(functools.reduce(_entry, parents, cfg._cfg_dict)).get(old)
        if new:
            _rename(renamed, {option: plus + '.'.join((*parents, new))}, '--cfg-options')
    return renamed


def deprecated_arguments(name_dict: Mapping[str, str]) -> Callable[[Callable], Callable]:
    """Let a function or constructor accept former names of its keyword arguments.

    Args:
        name_dict: New names by deprecated ones. The config check reads it by this name, as that of mmengine's
            ``deprecated_api_warning``, which gives a ``DeprecationWarning`` that users do not see.
    """

    def decorate(function: Callable) -> Callable:
        @functools.wraps(function)
        def with_new_names(*args: Any, **kwargs: Any) -> Any:
            _rename(kwargs, name_dict, function.__qualname__.removesuffix('.__init__'))
            return function(*args, **kwargs)

        return with_new_names

    return decorate


def current_type(name: str, path: str = '') -> str:
    """Return the new name of a registered type, or ``name`` if it is not deprecated.

    Args:
        name: Name without the scope.
        path: Its path in the config, for the warning.
    """
    new = get_renamed_types().get(name, name)
    if new != name:
        _warn(f'{path}: ' if path else '', f"the type 'reprefine.{name}'", f"'reprefine.{new}'")
    return new


def _rename_below(node: Any, path: str) -> None:
    if isinstance(node, list | tuple):
        for index, item in enumerate(node):
            _rename_below(item, f'{path}.{index}')
    elif isinstance(node, dict):
        for key in ('type', 'base_type'):
            kind = _entry(node, key)
            if isinstance(kind, str) and kind.startswith(SCOPE):
                node[key] = SCOPE + current_type(kind.removeprefix(SCOPE), path)
        _rename(node, _arguments_of(node), path)
        for key, value in dict.items(node):  # ConfigDict's own would import what is lazy
            _rename_below(value, f'{path}.{key}' if path else str(key))


def _entry(node: Any, key: str) -> Any:
    """Return an entry of a dict or list without importing what is lazy, None if there is none."""
    if isinstance(node, list | tuple):
        return node[int(key)] if key.isdigit() and int(key) < len(node) else None
    return dict.get(node, key) if isinstance(node, dict) else None


def _arguments_of(node: Any) -> Mapping[str, str]:
    """Return the deprecated arguments of the type that a dict of a config names, by text or as a class."""
    kind = _entry(node, 'type')
    if not isinstance(kind, str):
        kind = f'{getattr(kind, "__module__", None) or ""}.{getattr(kind, "__name__", "")}'
    return get_renamed_arguments().get(kind.rpartition('.')[2], {}) if kind.startswith(SCOPE) else {}


def _rename(node: MutableMapping, names: Mapping[str, str], path: str) -> None:
    for old, new in names.items():
        if old not in node:
            continue
        prefix = f'{path}: ' if path else ''
        if new in node:
            raise UserError(f"{prefix}'{old}' and '{new}' are both given; remove '{old}', the deprecated name")
        _warn(prefix, f"'{old}'", f"'{new}'")
        node[new] = dict.pop(node, old)


def _warn(prefix: str, old: str, new: str) -> None:
    warnings.warn(f'{prefix}{old} is deprecated and will be removed in the next release; use {new}', FutureWarning, 4)
