"""tools/train.py stops at a broken step, and tools/misc/replay_step.py runs it again."""

import re
from pathlib import Path

import pytest
import torch

from tests.helpers import two_processes
from tests.helpers.nonfinite import config_with_nonfinite_hook, replay_arguments
from tests.helpers.run import DIGITS, SMALL, run_train
from tests.helpers.run_tool import run_tool


def terms_of(output):
    """Pairs of the value now and the value then, as printed."""
    found = re.findall(r'^(\S+) = (\S+) \(recorded: (\S+)\)$', output, re.MULTILINE)
    return {name: (now, then) for name, now, then in found}


def test_digits_stop_and_the_next_run_goes_on_from_the_last_checkpoint(tmp_path, capsys):
    config, run = config_with_nonfinite_hook(tmp_path, DIGITS, iteration=3, value='float("inf")'), tmp_path / 'run'
    assert run_train(config, '--work-dir', str(run), *SMALL) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(
        r'at iteration 3 \(epoch 2\): loss = nan; samples: sample_idx \d+ \(its input is not finite\); ', error
    )
    assert '--cfg-options finite_check.replay=True writes the step to a file' in error
    assert sorted(path.name for path in run.glob('*.pth')) == ['epoch_1.pth']
    assert run_train(config, '--work-dir', str(run), '--resume', *SMALL, 'custom_hooks.0.iteration=0') == 0
    assert torch.load(run / 'epoch_2.pth', weights_only=True)['meta']['iter'] == 4


def test_a_finite_step_is_not_reproduced_and_its_values_are_the_recorded_ones(tmp_path, capsys):
    options = ('finite_check.replay=True', 'model.backbone.drop_rate=0.2')
    config, run = config_with_nonfinite_hook(tmp_path, DIGITS), tmp_path / 'run'
    assert run_train(config, '--work-dir', str(run), *SMALL, *options) == 1
    config, file = replay_arguments(run)
    content = torch.load(file, weights_only=True)
    content['batch']['inputs'].nan_to_num_(0.0)
    torch.save(content, file)
    capsys.readouterr()
    values = []
    for _ in range(2):  # dropout draws the same in each
        assert run_tool('misc/replay_step.py', config, file) == 1
        output, error = capsys.readouterr()
        assert 'the step is not reproduced' in error
        assert output.strip().endswith('\nnot reproduced, with other loss values than recorded')
        assert '0 of 20 gradients are not finite\nfirst module whose output is not finite: none\n' in output
        values.append(terms_of(output)['loss'][0])
    assert values[0] == values[1]


@pytest.mark.parametrize('content', [None, dict(state_dict={}), 'text'])
def test_another_file_is_refused(tmp_path, capsys, content):
    file = tmp_path / 'other.pth'
    if content is not None:
        torch.save(content, file)
    assert run_tool('misc/replay_step.py', DIGITS, file) == 1
    error = capsys.readouterr().err.strip()
    assert '\n' not in error
    assert str(file) in error


def test_both_processes_stop_when_one_has_a_loss_that_is_not_finite(tmp_path):
    # The gradient stays finite, so that the other process cannot know by itself.
    config, run = config_with_nonfinite_hook(tmp_path, DIGITS, iteration=2, rank=1, loss=True), tmp_path / 'run'
    options = ('train_dataloader.dataset.indices=128', 'finite_check.replay=True')
    code, said = two_processes.train(run, config, *SMALL, *options, job=two_processes.without_agent)
    assert code == 1, said
    lines = [Path(f'{run}.{rank}.log').read_text().strip().splitlines()[-1] for rank in '01']
    assert lines[0] == lines[1]
    assert 'loss is not finite at iteration 2 (epoch 1): rank 1: loss = nan; samples: sample_idx ' in lines[0]
    assert 'rank 0' not in lines[0]
    assert [path.name for path in run.glob('*.pth')] == ['nonfinite_iter_2_rank1.pth']
    config, file = replay_arguments(run)
    assert run_tool('misc/replay_step.py', config, file) == 1  # what made it NaN does so on rank 1 alone
