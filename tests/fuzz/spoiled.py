"""Bad checkpoints made from the sound one of conftest.py."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz.checkpoints import BadFile
from tests.fuzz.harness import SECONDS


def parametrize(cases: list[BadFile]) -> Callable:
    """Make a test of each bad checkpoint, with a limit of time."""
    mark = pytest.mark.parametrize('bad', [pytest.param(case, id=case.name) for case in cases])
    return lambda test: pytest.mark.timeout(SECONDS)(mark(test))


def made(bad: BadFile, sound: Path, tmp_path: Path) -> Path:
    """Make a bad checkpoint in the folder of a test."""
    path = tmp_path / 'bad.pth'
    bad.make(sound, path)
    if 'bit flipped' in bad.name:  # the checksum of the sound file is what tells them apart
        shutil.copy(f'{sound}.sha256', f'{path}.sha256')
    return path
