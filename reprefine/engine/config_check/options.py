"""Merging ``--cfg-options`` into a config, with an error for keys that do not exist."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope

from reprefine.engine.errors import UserError

from .check import accepted_keys, child_schema, keys_in_source
from .deprecated import rename_deprecated_options
from .lookup import suggestion
from .schema import PLAIN, ROOT, NodeSchema


def merge_options(cfg: Config, options: dict[str, Any]) -> None:
    """Merge ``--cfg-options`` into ``cfg`` in place.

    An option must name a key of the config, or an argument of the class at that position. A leading plus
    adds any key.

    Args:
        cfg: The parsed config. It is unchanged if an option is refused.
        options: Values by dotted path, as parsed by mmengine's ``DictAction``. Numbers are indices of lists.

    Raises:
        UserError: An option names no key and no argument, or an entry of a value that is no dict or list.
    """
    merged, options = cfg._cfg_dict, rename_deprecated_options(cfg, options)
    # Types first, so that arguments are checked against the new class in any order of the options.
    for option in sorted(options, key=lambda option: (not option.endswith('.type'), not option.endswith('.base_type'))):
        keys = option.removeprefix('+').split('.')
        if not option.startswith('+'):
            with DefaultScope.overwrite_default_scope(merged.get('default_scope', 'mmengine')):
                _check_option(merged, ROOT, keys, options[option], '', None)
        merged = _with_entry(merged, keys, copy.deepcopy(options[option]), '')
    for key, value in dict.items(merged):  # without resolving lazy imports
        cfg[key] = value


def _check_option(node: Any, schema: NodeSchema, keys: Sequence[str], value: Any, path: str, scope: str | None) -> None:
    """Follow ``keys`` from ``node`` and refuse the first that is neither a key nor an argument of the class."""
    if not keys:
        # A dict is merged entry by entry, unless it has a type of its own, which check_config checks.
        if isinstance(node, Mapping) and isinstance(value, Mapping) and not value.keys() & {'_delete_', 'type'}:
            for key, item in value.items():
                _check_option(node, schema, [key], item, path, scope)
        return
    key, *rest = keys
    inner_path = f'{path}.{key}' if path else key
    if isinstance(node, list | tuple):
        _check_option(node[_index(node, key, inner_path)], schema, rest, value, inner_path, scope)
    elif isinstance(node, Mapping):
        scope = node.get('_scope_', scope)
        if key not in node:
            _refuse_unknown(node, keys, value, schema, path, scope)
        inner, entry = child_schema(schema, key, node, path, scope), node.get(key)
        if entry is None and schema is ROOT and inner is not PLAIN:
            entry = {}
        _check_option(entry, inner, rest, value, inner_path, scope)


def _refuse_unknown(
    node: Mapping, keys: Sequence[str], value: Any, schema: NodeSchema, path: str, scope: str | None
) -> None:
    # A method is checked with the base type that the option gives it.
    changed = {**node, 'base_type': value} if list(keys) == ['base_type'] else node
    accepted = keys_in_source(changed, schema, path, scope) or accepted_keys(changed, schema, path, scope)
    if accepted is None or keys[0] in accepted:
        return
    prefix = f'{path}.' if path else ''
    option = prefix + '.'.join(keys)
    hint = suggestion(keys[0], accepted | node.keys(), prefix)
    raise UserError(
        f"--cfg-options {option}: '{prefix}{keys[0]}' is neither in the config nor an argument there; {hint} "
        f"(a leading plus adds it: '+{option}=...')"
    )


def _with_entry(node: Any, keys: Sequence[str], value: Any, path: str) -> Any:
    """Return a copy of ``node`` in which the entry at ``keys`` is ``value``; dicts are merged.

    Only the containers on the path are copied, as validation and test often share objects.
    """
    if not keys:
        if isinstance(node, Mapping) and isinstance(value, Mapping):
            merged = copy.deepcopy(node)
            merged.merge(value)
            return merged
        return value
    key, *rest = keys
    inner_path = f'{path}.{key}' if path else key
    if isinstance(node, list | tuple):
        index = _index(node, key, inner_path)
        item = _with_entry(node[index], rest, value, inner_path)
        return type(node)([*node[:index], item, *node[index + 1 :]])
    if node is not None and not isinstance(node, Mapping):
        raise UserError(f"--cfg-options {inner_path}: '{path}' is {node!r}, which has no entries; set '{path}' itself")
    result = ConfigDict() if node is None else node.copy()
    result[key] = _with_entry(result.get(key), rest, value, inner_path)
    return result


def _index(items: Sequence, key: str, path: str) -> int:
    if key.isdigit() and int(key) < len(items):
        return int(key)
    raise UserError(f'--cfg-options {path}: {key} is no index of the list; give an index from 0 to {len(items) - 1}')
