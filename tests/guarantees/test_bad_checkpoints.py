"""Damaged checkpoints, those of other models, and a second run, with every method and host library."""

import pytest
import torch

from reprefine.engine.lock import lock_work_dir
from tests.helpers.killed import assert_equal_runs
from tests.helpers.run import run_train
from tests.helpers.subjects import SUBJECTS, write_subject


@pytest.mark.parametrize('name', SUBJECTS)
def test_resuming_skips_a_damaged_checkpoint_and_another_model_is_refused(name, tmp_path, capsys):
    subject = write_subject(name, tmp_path)
    uninterrupted, resumed = tmp_path / 'uninterrupted', tmp_path / 'resumed'
    assert run_train(subject.config, '--work-dir', str(uninterrupted), *subject.argv) == 0
    uninterrupted.rename(resumed)
    last = resumed / 'iter_6.pth'
    content = last.read_bytes()
    last.rename(tmp_path / 'iter_6.pth')
    middle = len(content) // 2
    last.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])

    with lock_work_dir(str(resumed)):
        assert run_train(subject.config, '--work-dir', str(resumed), *subject.argv, '--resume') == 1
    assert 'is in use by' in capsys.readouterr().err

    assert run_train(subject.config, '--work-dir', str(resumed), *subject.argv, '--resume') == 0
    assert f'not resumed from {last}' in capsys.readouterr().err
    uninterrupted.mkdir()
    (tmp_path / 'iter_6.pth').rename(uninterrupted / 'iter_6.pth')
    (uninterrupted / 'last_checkpoint').write_text(str(uninterrupted / 'iter_6.pth'))
    assert_equal_runs(uninterrupted, resumed, 'resumed from iteration 4')

    foreign = tmp_path / 'foreign.pth'
    torch.save(dict(state_dict=dict(weight=torch.ones(2))), foreign)
    options = ('--cfg-options', f'load_from={foreign}')
    assert run_train(subject.config, '--work-dir', str(tmp_path / 'other'), *subject.argv, *options) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert str(foreign) in error
    assert 'min_load_ratio' in error
