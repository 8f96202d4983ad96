"""The methods in a config, and the config without one of them.

A part of a model stands for a method if its type is defined in ``reprefine.methods`` and tells the part of the
baseline in its place: by ``config_options``, as types with a ``base_type`` do, or by a function ``baseline_config``
that maps the part's config to the baseline's; None is no part. Methods that are a training of their own do neither.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS, Registry

from reprefine.engine.build import base_config, class_of
from reprefine.engine.config_check.rules import type_name
from reprefine.engine.errors import UserError

PACKAGE = 'reprefine.methods.'


class Method(NamedTuple):
    """A method in a config.

    Attributes:
        package: Name of its package.
        types: Names of the types that stand for it.
    """

    package: str
    types: tuple[str, ...]

    def __str__(self) -> str:
        return ' and '.join(self.types)


def methods_of(cfg: Config) -> list[Method]:
    """Return the methods of a config's model that it can be built without, outermost first."""
    types: dict[str, list[str]] = {}
    for node in _dicts(cfg.model):
        package = _package(MODELS, node)
        if package and _baseline(node) != node:
            types.setdefault(package, []).append(type_name(node))
    return [
        Method(package, tuple(dict.fromkeys(names)))
        for package, names in types.items()
        if _strip(cfg.model, package) != cfg.model
    ]


def without(cfg: Config, method: Method) -> Config:
    """Return a config whose model and hooks lack a method."""
    hooks = [hook for hook in cfg.get('custom_hooks') or [] if _package(HOOKS, hook) != method.package]
    return Config(dict(cfg._cfg_dict, model=_strip(cfg.model, method.package), custom_hooks=hooks))


def _strip(node: Any, package: str) -> Any:
    """Return a config of a model without a method, unless the method is a training of its own."""
    if isinstance(node, Mapping):
        if _package(MODELS, node) == package:
            baseline = _baseline(node)
            return node if baseline == node else _strip(baseline, package)
        return type(node)({key: _strip(value, package) for key, value in node.items()})
    if isinstance(node, list | tuple):
        stripped = [_strip(item, package) for item in node]
        return type(node)(new for new, item in zip(stripped, node, strict=True) if new is not None or item is None)
    return node


def _baseline(node: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the config of the baseline's part in place of a part, which may be the same."""
    kind = class_of(MODELS, node)
    if 'base_type' in node and getattr(kind, 'config_options', {}):
        return base_config(kind, node)
    to_baseline = getattr(kind, 'baseline_config', None)
    try:
        return node if to_baseline is None else to_baseline(node)
    except UserError:  # no baseline computes the same
        return node


def _package(registry: Registry, node: Any) -> str:
    """Return the name of the method's package that the type of a config is defined in, empty if it is in none."""
    kind = node.get('type') if isinstance(node, Mapping) else type(node)
    if isinstance(kind, str):
        kind = class_of(registry, node) if kind.startswith('reprefine.') else None
    module = getattr(kind, '__module__', None) or ''
    return module.removeprefix(PACKAGE).split('.')[0] if module.startswith(PACKAGE) else ''


def _dicts(node: Any) -> Iterator[Mapping]:
    """Yield the dicts of a config, outermost first."""
    if isinstance(node, Mapping):
        yield node
        for value in node.values():
            yield from _dicts(value)
    elif isinstance(node, list | tuple):
        for item in node:
            yield from _dicts(item)
