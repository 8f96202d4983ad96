"""Generated pages: ``python -m <module> --write`` writes one, and ``make pages`` all of them."""

import sys
from collections.abc import Callable
from pathlib import Path


def write_as_tool(page: Path, text: Callable[[], str], module: str) -> None:
    """Write a page if the command line asks for it.

    Args:
        page: The page.
        text: Returns its text.
        module: Dotted name of the module that generates it.
    """
    if sys.argv[1:] != ['--write']:
        sys.exit(f'usage: python -m {module} --write')
    page.write_text(text())
