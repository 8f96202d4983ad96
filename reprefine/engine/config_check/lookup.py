"""Looking up the class that a ``type`` names, or suggesting a similar name."""

import difflib
import importlib
from collections.abc import Callable, Iterable, Iterator, Set

import mmengine.registry
from mmengine.registry import DefaultScope, Registry

from reprefine.engine.errors import UserError
from reprefine.engine.host_imports import import_mmpretrain_without_mmdet
from reprefine.set_up import set_up

MAX_LISTED = 12


def suggestion(word: str, valid: Iterable[str], prefix: str = '') -> str:
    """Return ``did you mean …?``, or the valid names if none is similar; each with ``prefix`` before it."""
    valid = sorted(valid)
    close = difflib.get_close_matches(word, valid, n=1)
    if close:
        return f"did you mean '{prefix}{close[0]}'?"
    if not valid:
        return 'it takes none'
    return f'valid are: {", ".join(valid[:MAX_LISTED])}{", ..." if len(valid) > MAX_LISTED else ""}'


def find_type(name: str, registries: Iterable[str], scope: str | None, path: str) -> Callable:
    """Return the class or function registered as ``name``, in a process that is set up for a run.

    Args:
        name: Value of a ``type`` key, with or without a scope prefix.
        registries: Names of the registries to search, as in ``mmengine.registry``.
        scope: Value of the innermost ``_scope_``; ``None`` for the default scope.
        path: Config path of the name, for the message.

    Raises:
        UserError: It is in none of the registries.
    """
    set_up()  # which replaces mmengine's `Pretrained` by one with more arguments
    with DefaultScope.overwrite_default_scope(scope):
        found = list(_active_registries(registries))
        for registry in found:
            target = _get(registry, name)
            if target is not None:
                return target
    raise UserError(f"{path}: no {found[0].name} is registered as '{name}'; {_suggest_type(name, found)}")


def _active_registries(registries: Iterable[str]) -> Iterator[Registry]:
    """Yield the registries that the default scope selects."""
    current = DefaultScope.get_current_instance()
    if current and current.scope_name == 'mmpretrain':
        import_mmpretrain_without_mmdet()
    library = importlib.import_module(f'{current.scope_name}.registry') if current else None
    for name in registries:
        root = getattr(mmengine.registry, name, None)
        if root is not None:
            with root.switch_scope_and_registry(None) as registry:
                yield registry
        elif hasattr(library, name):
            yield getattr(library, name)


def _get(registry: Registry, name: str) -> Callable | None:
    try:
        target = registry.get(name)
    except RuntimeError:  # mmengine's error for a dotted name that cannot be imported
        return None
    return target if callable(target) else None


def _suggest_type(name: str, registries: list[Registry]) -> str:
    """Suggest the same name in another scope, or a similar one in the given scope."""
    scope, _, bare = name.rpartition('.')
    trees = [registry for start in registries for registry in _tree(start.root)]
    for registry in trees:
        if bare in _names(registry) and name != f'{registry.scope}.{bare}':  # else a library that it needs is missing
            return f"did you mean '{registry.scope}.{bare}'?"
    candidates = [registry for registry in trees if registry.scope == scope] or trees
    names = {known: f'{registry.scope}.{known}' for registry in candidates for known in _names(registry)}
    if not scope:
        names |= {known: known for start in registries for registry in _ancestors(start) for known in _names(registry)}
    close = difflib.get_close_matches(bare, names, n=1)
    if not close or names[close[0]] == name:
        return 'is what registers it imported, and installed?'
    return f"did you mean '{names[close[0]]}'?"


def _names(registry: Registry) -> Set[str]:
    return registry.names() if hasattr(registry, 'names') else registry.module_dict.keys()


def _tree(registry: Registry) -> Iterator[Registry]:
    yield registry
    for child in registry.children.values():
        yield from _tree(child)


def _ancestors(registry: Registry | None) -> Iterator[Registry]:
    while registry is not None:
        yield registry
        registry = registry.parent
