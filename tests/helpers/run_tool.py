"""Runs a tool inside the test process."""

import argparse
import importlib
import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from reprefine.engine.cli.tool import make_parser
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


def load_tool(tool: str) -> tuple[dict[str, Any], argparse.ArgumentParser]:
    """Execute the module ``tools/<tool>``; return its names and its argument parser."""
    with first_on_path((TOOLS / tool).parent):
        names = runpy.run_path(str(TOOLS / tool))
    add_arguments = names.get('add_arguments') or names[f'add_{Path(tool).stem}_arguments']  # of train.py and test.py
    return names, make_parser(add_arguments, names['__doc__'], names['EXAMPLE'])


def run_tool(tool: str, *argv: object) -> int:
    """Run ``tools/<tool>`` with the given arguments and return its exit code."""
    names, parser = load_tool(tool)
    with first_on_path((TOOLS / tool).parent):
        return run_cli(names['main'], parser, [str(word) for word in argv])


def import_beside(tool: str, module: str) -> ModuleType:
    """Import a module by the name that ``tools/<tool>`` imports it by."""
    with first_on_path((TOOLS / tool).parent):
        return importlib.import_module(module)
