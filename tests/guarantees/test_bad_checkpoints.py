"""What becomes of damaged and foreign checkpoints, and of a second run, in the training of every method and host."""

import pytest
import torch

from reprefine.engine.lock import lock_work_dir
from tests.helpers.killed import assert_equal_runs
from tests.helpers.run import run_train
from tests.helpers.subjects import SUBJECTS, write_subject


@pytest.mark.parametrize('name', SUBJECTS)
def test_resuming_passes_over_a_damaged_one_and_what_does_not_fit_is_refused(name, tmp_path, capsys):
    subject = write_subject(name, tmp_path)
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    assert run_train(subject.config, '--work-dir', str(whole), *subject.argv) == 0
    whole.rename(parts)
    last = parts / 'iter_6.pth'
    content = last.read_bytes()
    last.rename(tmp_path / 'iter_6.pth')
    middle = len(content) // 2
    last.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])

    with lock_work_dir(str(parts)):
        assert run_train(subject.config, '--work-dir', str(parts), *subject.argv, '--resume') == 1
    assert 'is in use by' in capsys.readouterr().err

    assert run_train(subject.config, '--work-dir', str(parts), *subject.argv, '--resume') == 0
    assert f'not resumed from {last}' in capsys.readouterr().err
    whole.mkdir()
    (tmp_path / 'iter_6.pth').rename(whole / 'iter_6.pth')
    (whole / 'last_checkpoint').write_text(str(whole / 'iter_6.pth'))
    assert_equal_runs(whole, parts, 'resumed from iteration 4')

    foreign = tmp_path / 'foreign.pth'
    torch.save(dict(state_dict=dict(weight=torch.ones(2))), foreign)
    options = ('--cfg-options', f'load_from={foreign}')
    assert run_train(subject.config, '--work-dir', str(tmp_path / 'other'), *subject.argv, *options) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert str(foreign) in error
    assert 'min_load_ratio' in error
