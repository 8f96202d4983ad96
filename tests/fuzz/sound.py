"""A sound checkpoint, and bad ones made from it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz.checkpoints import BadFile
from tests.fuzz.harness import SECONDS
from tests.helpers.run import train_digits


@pytest.fixture(scope='module')
def sound(tmp_path_factory):
    """The checkpoint of a run of one epoch, with its checksum beside it."""
    work_dir = tmp_path_factory.mktemp('sound')
    assert train_digits(work_dir, 'train_cfg.max_epochs=1') == 0
    return work_dir / 'epoch_1.pth'


def parametrize(cases: list[BadFile]) -> Callable:
    marked = [
        pytest.param(case, id=case.name, marks=pytest.mark.xfail(reason=case.xfail) if case.xfail else ())
        for case in cases
    ]
    return lambda test: pytest.mark.timeout(SECONDS)(pytest.mark.parametrize('bad', marked)(test))


def made(bad: BadFile, sound: Path, tmp_path: Path) -> Path:
    path = tmp_path / 'bad.pth'
    bad.make(sound, path)
    if 'bit flipped' in bad.name:  # the checksum of the sound file is what tells them apart
        shutil.copy(f'{sound}.sha256', f'{path}.sha256')
    return path
