"""Bad checkpoints, given to test.py, to load_from and to --resume."""

import shutil

import pytest

from tests.fuzz.checkpoints import CUTS, FLIPS, OTHERS, RESUMED, STARTED, BadFile
from tests.fuzz.harness import SECONDS, Case, judge_testing, judge_training
from tests.helpers.run import SMALL, train_digits

ONE = (*SMALL, 'train_cfg.max_epochs=1')


@pytest.fixture(scope='module')
def sound(tmp_path_factory):
    """The checkpoint of a run of one epoch, with its checksum beside it."""
    work_dir = tmp_path_factory.mktemp('sound')
    assert train_digits(work_dir, 'train_cfg.max_epochs=1') == 0
    return work_dir / 'epoch_1.pth'


def parametrize(cases: list[BadFile]):
    marked = [
        pytest.param(case, id=case.name, marks=pytest.mark.xfail(reason=case.xfail) if case.xfail else ())
        for case in cases
    ]
    return lambda test: pytest.mark.timeout(SECONDS)(pytest.mark.parametrize('bad', marked)(test))


def made(bad, sound, tmp_path):
    path = tmp_path / 'bad.pth'
    bad.make(sound, path)
    if 'bit flipped' in bad.name:  # the checksum of the sound file is what tells them apart
        shutil.copy(f'{sound}.sha256', f'{path}.sha256')
    return path


@parametrize(CUTS + FLIPS + OTHERS)
def test_tested(bad, sound, tmp_path, capsys):
    judge_testing(Case(bad.name, bad.ending), tmp_path, made(bad, sound, tmp_path), capsys, *SMALL)


@parametrize(STARTED)
def test_started_from(bad, sound, tmp_path, capsys):
    case = Case(bad.name, bad.ending, (f'load_from={made(bad, sound, tmp_path)}',))
    judge_training(case, tmp_path, capsys, *ONE)


@parametrize(RESUMED)
def test_resumed(bad, sound, tmp_path, capsys):
    judge_training(Case(bad.name, bad.ending), tmp_path, capsys, '--resume', str(made(bad, sound, tmp_path)), *SMALL)
