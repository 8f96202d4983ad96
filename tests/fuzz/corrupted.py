"""Bad checkpoints, made from the valid one of conftest.py."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz.checkpoints import BadFile
from tests.fuzz.harness import SECONDS


def parametrize(cases: list[BadFile]) -> Callable:
    """Parametrize a test by bad checkpoints, with a time limit."""
    mark = pytest.mark.parametrize('bad', [pytest.param(case, id=case.name) for case in cases])
    return lambda test: pytest.mark.timeout(SECONDS)(mark(test))


def write_corrupted(bad: BadFile, valid: Path, tmp_path: Path) -> Path:
    """Write a bad checkpoint into the folder of a test."""
    path = tmp_path / 'bad.pth'
    bad.make(valid, path)
    if 'bit flipped' in bad.name:  # only the checksum of the valid file detects it
        shutil.copy(f'{valid}.sha256', f'{path}.sha256')
    return path
