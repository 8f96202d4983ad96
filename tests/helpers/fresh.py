"""Processes that know nothing of what this one has set up."""

import os
import subprocess
import sys
from pathlib import Path

from reprefine.set_up import MARK

SWITCHES = ('TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD')


def fresh_environment(**additions: str) -> dict[str, str]:
    """Return the environment without what :func:`reprefine.set_up.set_up` puts there."""
    return {key: value for key, value in os.environ.items() if key not in (MARK, *SWITCHES)} | additions


def run_fresh(code: str, folder: Path | None = None, **additions: str) -> str:
    """Run Python code in a fresh process and return what it prints.

    Args:
        code: The code.
        folder: Working directory.
        **additions: Variables of its environment.
    """
    command = [sys.executable, '-c', code]
    return subprocess.check_output(command, text=True, cwd=folder, env=fresh_environment(**additions)).strip()
