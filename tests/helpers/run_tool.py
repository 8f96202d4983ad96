"""Runs any thin tool inside the test process."""

import importlib
import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from reprefine.engine.errors import run_cli

TOOLS = Path(__file__).parents[2] / 'tools'


@contextmanager
def first_on_path(folder: Path) -> Iterator[None]:
    """Put a folder first on ``sys.path``, as Python does with the folder of a script."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def run_tool(tool: str, *argv: object) -> int:
    """Run ``tools/<tool>`` with the given arguments and return its exit code."""
    with first_on_path((TOOLS / tool).parent):
        names = runpy.run_path(str(TOOLS / tool))
        return run_cli(names['main'], names['make_parser'](), [str(word) for word in argv])


def import_beside(tool: str, module: str) -> ModuleType:
    """Import a module by the name that ``tools/<tool>`` imports it by."""
    with first_on_path((TOOLS / tool).parent):
        return importlib.import_module(module)
