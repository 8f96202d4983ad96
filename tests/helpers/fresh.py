"""Processes without the environment variables of the set-up."""

import os
import subprocess
import sys
from pathlib import Path

from reprefine.set_up import MARK

TORCH_VARIABLES = ('TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD')


def fresh_environment(**additions: str) -> dict[str, str]:
    """Return the environment without the variables that :func:`reprefine.set_up.set_up` sets."""
    return {key: value for key, value in os.environ.items() if key not in (MARK, *TORCH_VARIABLES)} | additions


def run_fresh(code: str, folder: Path | None = None, **additions: str) -> str:
    """Run Python code in a fresh process and return what it prints.

    Args:
        code: The code.
        folder: Working directory.
        **additions: Variables of its environment.
    """
    command = [sys.executable, '-c', code]
    return subprocess.check_output(command, text=True, cwd=folder, env=fresh_environment(**additions)).strip()
