"""Arguments of classes, read from their source without importing them, which takes seconds for OpenMMLab libraries."""

import ast
import sys
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from mmengine import registry as roots

from reprefine.registered import Source, registered

REPLACED = {('WEIGHT_INITIALIZERS', 'Pretrained')}  # by reprefine.set_up
BASES = ('mmengine', 'mmcv')  # which register in the root registries


def arguments_in_source(name: str, registries: Iterable[str], scope: str) -> frozenset[str] | None:
    """Return the keyword arguments of the class registered as ``name``.

    Args:
        name: Value of a ``type`` key, with or without a scope prefix.
        registries: Names of the registries to search, as in ``mmengine.registry``.
        scope: Scope of a name without a prefix.

    Returns:
        The names, as :func:`.signatures.accepted_arguments` returns them. None if the class must be imported: its
        source is not sufficient, or the registries of the scope are imported already and may differ from it.
    """
    prefix, _, bare = name.rpartition('.')
    scope = prefix or scope
    packages = BASES if scope == 'mmengine' else (scope,) if prefix else (scope, *BASES)
    if not scope.isidentifier() or _is_imported(scope):
        return None
    for registry in registries:
        if (registry, bare) in REPLACED:
            return None
        if bare in getattr(getattr(roots, registry, None), 'module_dict', ()):
            return None
        for package in packages:
            source = registered(package).get((registry, bare))
            if source is not None:
                return arguments_of_class(source)
    return None


def _is_imported(scope: str) -> bool:
    return scope != 'mmengine' and f'{scope}.registry' in sys.modules


def arguments_of_default(path: str) -> frozenset[str] | None:
    """Return the keyword arguments of the class at ``package.module:Class``, None if it must be imported."""
    module, _, name = path.partition(':')
    package, *inner = module.split('.')
    file = Path(find_spec(package).origin).parent.joinpath(*inner).with_suffix('.py')
    return arguments_of_class(Source(file, module, name)) if file.is_file() else None


@cache
def arguments_of_class(source: Source) -> frozenset[str] | None:
    """Return the arguments of a class whose own constructor names all of them, else None."""
    body = ast.parse(source.file.read_text(encoding='utf-8')).body
    classes = [node for node in body if isinstance(node, ast.ClassDef) and node.name == source.name]
    if len(classes) != 1:
        return None
    methods = [node for node in ast.walk(classes[0]) if isinstance(node, ast.FunctionDef)]
    inits = [method for method in methods if method.name == '__init__']
    if len(inits) != 1 or inits[0] not in classes[0].body or any(method.name == '__new__' for method in methods):
        return None
    init = inits[0]
    if init.decorator_list or init.args.kwarg:
        return None
    return frozenset(argument.arg for argument in init.args.args + init.args.kwonlyargs) - {'self'}
