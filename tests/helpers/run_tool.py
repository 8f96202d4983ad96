"""Runs any thin tool inside the test process."""

import runpy
from pathlib import Path

from reprefine.engine.errors import run_cli

TOOLS = Path(__file__).parents[2] / 'tools'


def run_tool(tool: str, *argv: object) -> int:
    """Run ``tools/<tool>`` with the given arguments and return its exit code."""
    names = runpy.run_path(str(TOOLS / tool))
    return run_cli(names['main'], names['make_parser'](), [str(word) for word in argv])
