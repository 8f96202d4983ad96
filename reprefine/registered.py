"""What the packages register, read from their source. Nothing is imported, neither they nor torch."""

import os
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

# A decorator with the name as a literal, or that of what is decorated, and no other decorators below.
DECORATED = re.compile(
    r"^@([A-Z_]+)\.register_module\((?:(?:name=)?['\"](\w+)['\"])?\)\n(?:class|def) (\w+)", re.MULTILINE
)


class Source(NamedTuple):
    """Where something registered is defined.

    Attributes:
        file: The file.
        module: Dotted name of its module.
        name: Name of the class or function there.
    """

    file: Path
    module: str
    name: str


@cache
def registered(package: str) -> dict[tuple[str, str], Source]:
    """Return the classes and functions that a package registers by decorators.

    Args:
        package: Name of a package; one that is not installed registers nothing.

    Returns:
        What is registered, by the name of the registry's variable and the registered name. A name that is used several
        times for different things is left out.
    """
    found: dict[tuple[str, str], set[Source]] = {}
    for file, module in _modules(package):
        for registry, name, defined in DECORATED.findall(file.read_text(encoding='utf-8')):
            found.setdefault((registry, name or defined), set()).add(Source(file, module, defined))
    return {key: sources.pop() for key, sources in found.items() if len(sources) == 1}


def _modules(package: str) -> list[tuple[Path, str]]:
    """Return file and name of each module of a package that is no package itself, and none of OpenMMLab's configs."""
    spec = find_spec(package)
    root = Path(spec.origin).parent if spec and spec.origin else None
    modules = []
    for folder, inner, files in os.walk(root) if root else ():
        inner[:] = [name for name in inner if name.isidentifier()]
        parts = (package, *Path(folder).relative_to(root).parts)
        names = [name.removesuffix('.py') for name in files if name.endswith('.py')]
        modules += [(Path(folder, f'{name}.py'), '.'.join((*parts, name))) for name in names if name != '__init__']
    return modules
