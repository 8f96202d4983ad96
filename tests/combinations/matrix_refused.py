"""Cells without a meaning: whoever tries is told in one line."""

import re
from pathlib import Path

import pytest

from .matrix_cell import Stages


def assert_refused(run: Stages, path: Path, capsys: pytest.CaptureFixture) -> None:
    """Train a config and require it to end with the one line that the cell names."""
    capsys.readouterr()
    assert run.train(path, is_first=False) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith('train.py: error: ')]
    assert re.search(run.cell.refusal, line), line
