"""The methods in a config, and the config without one of them.

A dict in a model config belongs to a method if its type is defined in ``reprefine.methods`` and the dict of the
baseline is known: from ``config_options``, as for types with a ``base_type``, or from a function ``baseline_config``
of the type that returns it, or None for no module. Methods that are a training of their own have neither.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS, Registry

from reprefine.engine.build import base_config, class_of
from reprefine.engine.config_check.rules import type_name
from reprefine.engine.config_check.walk import iter_dicts
from reprefine.engine.errors import UserError

PACKAGE = 'reprefine.methods.'


class Method(NamedTuple):
    """A method in a config.

    Attributes:
        package: Name of its package.
        types: Names of its types in the config.
    """

    package: str
    types: tuple[str, ...]

    def __str__(self) -> str:
        return ' and '.join(self.types)


def find_methods(cfg: Config) -> list[Method]:
    """Return the methods that can be removed from a config's model, outermost first."""
    types: dict[str, list[str]] = {}
    for _, node in iter_dicts(cfg.model):
        package = _package(MODELS, node)
        if package and _baseline(node) != node:
            types.setdefault(package, []).append(type_name(node))
    return [
        Method(package, tuple(dict.fromkeys(names)))
        for package, names in types.items()
        if _strip(cfg.model, package) != cfg.model
    ]


def remove_method(cfg: Config, method: Method) -> Config:
    """Return a config without the modules and hooks of a method."""
    hooks = [hook for hook in cfg.get('custom_hooks') or [] if _package(HOOKS, hook) != method.package]
    return Config(dict(cfg._cfg_dict, model=_strip(cfg.model, method.package), custom_hooks=hooks))


def _strip(node: Any, package: str) -> Any:
    """Return a model config without the modules of a method, unless the method is a training of its own."""
    if isinstance(node, dict):
        if _package(MODELS, node) == package:
            baseline = _baseline(node)
            return node if baseline == node else _strip(baseline, package)
        return type(node)({key: _strip(value, package) for key, value in node.items()})
    if isinstance(node, list | tuple):
        stripped = [_strip(item, package) for item in node]
        return type(node)(new for new, item in zip(stripped, node, strict=True) if new is not None or item is None)
    return node


def _baseline(node: dict[str, Any]) -> dict[str, Any] | None:
    """Return the dict of the baseline for a dict of a method, which may be the same, or None for no module."""
    kind = class_of(MODELS, node)
    if 'base_type' in node and getattr(kind, 'config_options', {}):
        return base_config(kind, node)
    to_baseline = getattr(kind, 'baseline_config', None)
    try:
        return node if to_baseline is None else to_baseline(node)
    except UserError:  # there is no equivalent baseline
        return node


def _package(registry: Registry, node: Any) -> str:
    """Return the name of the method package in which the type of a dict is defined, empty if in none."""
    kind = node.get('type') if isinstance(node, Mapping) else type(node)
    if isinstance(kind, str):
        kind = class_of(registry, node) if kind.startswith('reprefine.') else None
    module = getattr(kind, '__module__', None) or ''
    return module.removeprefix(PACKAGE).split('.')[0] if module.startswith(PACKAGE) else ''
