"""What the modules of a package register and declare, read from their source without importing them."""

import ast
import os
import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

# The decorator, with or without a literal name, directly above the class or function.
DECORATED = re.compile(
    r"^@([A-Z_]+)\.register_module\((?:(?:name=)?['\"](\w+)['\"])?\)\n(?:class|def) (\w+)", re.MULTILINE
)

# Constants by which modules tell the engine about themselves; its modules of the same concern say what they hold.
DECLARATIONS = ('CONFIG_SCHEMA', 'DEPRECATED_ARGUMENTS', 'DEPRECATED_TYPES', 'FORM_KEYS')
DECLARED = re.compile(rf'^(?:{"|".join(DECLARATIONS)}) = ', re.MULTILINE)


class Source(NamedTuple):
    """The definition of a registered class or function.

    Attributes:
        file: Its file.
        module: Dotted name of its module.
        name: Its name in the module.
    """

    file: Path
    module: str
    name: str


class Contents(NamedTuple):
    """What the modules of a package register and declare.

    Attributes:
        registered: Sources by the variable of the registry and the registered name.
        declared: The declared literals by the name of the constant.
    """

    registered: dict[tuple[str, str], Source]
    declared: dict[str, list[Any]]


def registered(package: str) -> dict[tuple[str, str], Source]:
    """Return the classes and functions that a package registers by decorators.

    Args:
        package: Name of a package; one that is not installed registers nothing.

    Returns:
        What is registered, by the name of the registry's variable and the registered name. A name that is used several
        times for different things is left out.
    """
    return _read(package).registered


def declared(package: str, name: str) -> list[Any]:
    """Return the literals that modules of a package assign to a constant at their top level.

    Args:
        package: Name of a package; one that is not installed declares nothing.
        name: One of :data:`DECLARATIONS`.
    """
    return _read(package).declared[name]


@cache
def _read(package: str) -> Contents:
    """Read each module of a package once."""
    found: dict[tuple[str, str], set[Source]] = {}
    literals: dict[str, list[Any]] = {name: [] for name in DECLARATIONS}
    for file, module in _modules(package):
        text = file.read_text(encoding='utf-8')
        for registry, name, defined in DECORATED.findall(text):
            found.setdefault((registry, name or defined), set()).add(Source(file, module, defined))
        if DECLARED.search(text):
            for name, literal in _literals(text):
                literals[name].append(literal)
    return Contents({key: sources.pop() for key, sources in found.items() if len(sources) == 1}, literals)


def _literals(text: str) -> Iterator[tuple[str, Any]]:
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and (name := ast.unparse(node.targets[0])) in DECLARATIONS:
            yield name, ast.literal_eval(node.value)


def _modules(package: str) -> list[tuple[Path, str]]:
    """Return file and dotted name of the modules of a package, without ``__init__`` and config files."""
    spec = find_spec(package)
    root = Path(spec.origin).parent if spec and spec.origin else None
    modules = []
    for folder, inner, files in os.walk(root) if root else ():
        inner[:] = [name for name in inner if name.isidentifier()]
        parts = (package, *Path(folder).relative_to(root).parts)
        names = [name.removesuffix('.py') for name in files if name.endswith('.py')]
        modules += [(Path(folder, f'{name}.py'), '.'.join((*parts, name))) for name in names if name != '__init__']
    return modules
