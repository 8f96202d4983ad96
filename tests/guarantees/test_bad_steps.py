"""A step with a gradient that is not finite ends training and can be replayed, with every method and host library."""

import math

import pytest

from reprefine.engine.cli.launch import load_config
from reprefine.engine.finite_check.replay import read_replay
from reprefine.engine.finite_check.rerun import rerun
from tests.helpers.nonfinite import nonfinite_hook, replay_arguments
from tests.helpers.run import run_train
from tests.helpers.subjects import SUBJECTS, write_subject


@pytest.mark.parametrize('name', SUBJECTS)
def test_training_stops_before_the_update_and_the_replay_has_equal_losses(name, tmp_path, capsys):
    subject = write_subject(name, tmp_path, nonfinite_hook('custom_hooks', iteration=3, gradient=True))
    options = ('--cfg-options', 'finite_check.replay=True')
    assert run_train(subject.config, '--work-dir', str(tmp_path / 'run'), *subject.argv, *options) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert 'gradient is not finite at iteration 3 ' in error
    assert 'all loss terms are finite, the gradient of ' in error
    named = ['VOC2012/'] if name == 'dvt' else map(str, subject.files)
    assert any(sample in error for sample in named), error
    assert {path.name for path in (tmp_path / 'run').glob('*.pth')} == {'iter_2.pth', 'nonfinite_iter_3.pth'}

    config, file = replay_arguments(tmp_path / 'run')
    assert error.endswith(f'replay_step.py {config} {file}')
    content = read_replay(file)
    found = rerun(load_config(config), content)
    assert found.terms == content['terms']
    assert all(map(math.isfinite, found.terms.values()))
    assert found.is_finite  # the gradient was changed by a hook outside the step
    assert found.module is None
