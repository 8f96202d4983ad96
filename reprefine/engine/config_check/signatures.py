"""Keyword arguments of imported classes and functions, also those passed through ``**kwargs`` to the parents."""

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner
from torch import nn

# Classes that store their **kwargs for the call of this function.
FORWARDED = {CheckpointHook: Runner.save_checkpoint}


@functools.cache
def accepted_arguments(target: Callable) -> frozenset[str] | None:
    """Return the names of the keyword arguments that ``target`` takes.

    Args:
        target: A class or a function.

    Returns:
        The names, or ``None`` if they cannot be determined.
    """
    if target in FORWARDED:
        return _parameters(target.__init__)[0] | _parameters(FORWARDED[target])[0]
    if inspect.isclass(target):
        return _class_arguments(target)
    try:
        names, keyword_dict = _parameters(target)
    except (TypeError, ValueError):
        return None
    if keyword_dict is None:
        return names
    use = _use_of_kwargs(target, '', keyword_dict)
    return None if use is None else names | use.read


def _parameters(function: Callable) -> tuple[frozenset[str], str | None]:
    """Return the named parameters of ``function`` and the name of its ``**kwargs``, if any."""
    kinds = inspect.Parameter
    parameters = inspect.signature(function).parameters.values()
    names = {p.name for p in parameters if p.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)}
    # Former names that mmengine's ``deprecated_api_warning`` and our ``deprecated_arguments`` translate.
    if inspect.isfunction(function):
        names |= set(inspect.getclosurevars(function).nonlocals.get('name_dict', ()))
    keyword_dicts = [p.name for p in parameters if p.kind is kinds.VAR_KEYWORD]
    return frozenset(names - {'self'}), keyword_dicts[0] if keyword_dicts else None


@dataclass
class KwargsUse:
    """Use of ``**kwargs`` in a constructor.

    Attributes:
        read: Keys that it reads itself or passes to a function.
        fixed: Arguments that it sets when it calls its parent.
        forwarded: Whether the parent receives the other keys; otherwise they have no effect.
    """

    read: set[str] = field(default_factory=set)
    fixed: set[str] = field(default_factory=set)
    forwarded: bool = False


def _class_arguments(cls: type) -> frozenset[str] | None:
    """Collect arguments along the MRO while constructors pass their ``**kwargs`` to the parent."""
    accepted: set[str] = set()
    taken: set[str] = set()
    for owner in cls.__mro__:
        if isinstance(vars(owner).get('__new__'), staticmethod):
            return None
        init = vars(owner).get('__init__')
        # nn.Module declares **kwargs only to refuse them.
        if owner in (object, nn.Module):
            break
        if init is None:
            continue
        if not inspect.isfunction(init):
            return None
        names, keyword_dict = _parameters(init)
        accepted |= names - taken
        if keyword_dict is None:
            break
        use = _use_of_kwargs(init, owner.__name__, keyword_dict)
        if use is None:
            return None
        accepted |= use.read - taken
        taken |= use.fixed
        if not use.forwarded:
            break
    return frozenset(accepted)


def _use_of_kwargs(init: Callable, owner: str, name: str) -> KwargsUse | None:
    """Find the use of ``**kwargs`` in the source of a constructor, ``None`` if it cannot be determined."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(init)))
    except (OSError, TypeError, SyntaxError):
        return None
    use = KwargsUse()
    understood = 0
    for node in ast.walk(tree):
        if _is_super_init(node, owner) and any(_is_name(k.value, name) and k.arg is None for k in node.keywords):
            use.fixed |= {k.arg for k in node.keywords if k.arg}
            use.forwarded = True
            understood += 1
        elif (names := _passed_to_function(node, name, inspect.unwrap(init).__globals__)) is not None:
            use.read |= names
            understood += 1
        elif _adds_defaults(node, name):
            understood += 2
        elif (key := _key_read(node, name)) is not None:
            use.read.add(key)
            understood += 1
    return use if understood == sum(_is_name(node, name) for node in ast.walk(tree)) else None


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _is_super_init(node: ast.AST, owner: str) -> bool:
    """Return whether ``node`` calls ``super().__init__`` or ``super(owner, self).__init__``."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Call(func=ast.Name(id='super'), args=args), attr='__init__')):
            return not args or _is_name(args[0], owner)
    return False


def _passed_to_function(node: ast.AST, name: str, scope: dict[str, Any]) -> frozenset[str] | None:
    """Return the valid keys of the dict ``name`` if ``node`` is ``called(..., **name)`` of a function or class."""
    match node:
        case ast.Call(func=ast.Name(id=called), args=args, keywords=keywords):
            target = scope.get(called)
            is_known = inspect.isfunction(target) or inspect.isclass(target)
            if not is_known or not any(k.arg is None and _is_name(k.value, name) for k in keywords):
                return None
            names = accepted_arguments(target)
            given = {k.arg for k in keywords} | set(list(inspect.signature(target).parameters)[: len(args)])
            return None if names is None else names - given
    return None


def _adds_defaults(node: ast.AST, name: str) -> bool:
    """Return whether ``node`` is ``kwargs = {..., **kwargs}``."""
    match node:
        case ast.Assign(targets=[ast.Name(id=found)], value=ast.Dict(keys=keys, values=values)) if found == name:
            return any(key is None and _is_name(value, name) for key, value in zip(keys, values, strict=True))
    return False


def _key_read(node: ast.AST, name: str) -> Any:
    """Return the constant key that ``node`` reads from the dict ``name``, else ``None``."""
    match node:
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id=found), attr='pop' | 'get' | 'setdefault'),
            args=[ast.Constant(value=str(key)), *_],
        ) if found == name:
            return key
        case ast.Subscript(value=ast.Name(id=found), slice=ast.Constant(value=str(key))) if found == name:
            return key
        case ast.Compare(
            left=ast.Constant(value=str(key)), ops=[ast.In() | ast.NotIn()], comparators=[ast.Name(id=found)]
        ) if found == name:
            return key
    return None
