"""What the modules of a package register and declare, read from their source without importing them."""

import ast
import os
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

# The decorator, with or without a literal name, directly above the class or function.
DECORATED = re.compile(
    r"^@([A-Z_]+)\.register_module\((?:(?:name=)?['\"](\w+)['\"])?\)\n(?:class|def) (\w+)", re.MULTILINE
)


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


@cache
def registered(package: str) -> dict[tuple[str, str], Source]:
    """Return the classes and functions that a package registers by decorators.

    Args:
        package: Name of a package; the result is empty if it is not installed.

    Returns:
        The definitions by name of the registry variable and registered name. Names with several definitions are left
        out.
    """
    found: dict[tuple[str, str], set[Source]] = {}
    for file, module in _modules(package):
        for registry, name, defined in DECORATED.findall(file.read_text(encoding='utf-8')):
            found.setdefault((registry, name or defined), set()).add(Source(file, module, defined))
    return {key: sources.pop() for key, sources in found.items() if len(sources) == 1}


@cache
def declared(package: str, name: str) -> list[Any]:
    """Return the literals that modules of a package assign to ``name`` at their top level.

    Args:
        package: Name of a package; one that is not installed declares nothing.
        name: Name of the constant, such as ``CONFIG_SCHEMA``.
    """
    sources = [file.read_text(encoding='utf-8') for file, _ in _modules(package)]
    assigned = [
        node
        for source in sources
        if f'\n{name} = ' in source
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name
    ]
    return [ast.literal_eval(node.value) for node in assigned]


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
