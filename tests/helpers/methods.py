"""What each method declares for the tests of the whole package, in modules of its folder ``tests/methods/<method>``."""

import importlib
from functools import cache
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parents[1] / 'methods'
METHODS = sorted(path.parent.name for path in (FOLDER.parents[1] / 'reprefine/methods').glob('*/__init__.py'))


@cache
def declared(name: str) -> dict[str, ModuleType]:
    """Return the module of each method that has it, ``tests/methods/<method>/<name>.py``."""
    return {
        method: importlib.import_module(f'tests.methods.{method}.{name.replace("/", ".")}')
        for method in METHODS
        if (FOLDER / method / f'{name}.py').is_file()
    }
