"""Runs that cannot be resumed exactly warn, and continue from the corresponding batch."""

import pytest
import torch

from tests.helpers.run import DIGITS, run_train

from .test_resume import BY_ITER, OPTIONS


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """A checkpoint after four of the five batches of the first epoch."""
    folder = tmp_path_factory.mktemp('first')
    options = (*OPTIONS, *BY_ITER, 'train_cfg.max_epochs=1', 'default_hooks.checkpoint.max_keep_ckpts=-1')
    assert run_train(DIGITS, '--work-dir', str(folder), *options) == 0
    return folder / 'iter_4.pth'


def resume(checkpoint, folder, capsys, *options):
    argv = ('--work-dir', str(folder), '--resume', str(checkpoint), *OPTIONS, *BY_ITER)
    assert run_train(DIGITS, *argv, 'train_cfg.max_epochs=1', *options) == 0
    final = torch.load((folder / 'last_checkpoint').read_text(), weights_only=True)
    return final['meta']['iter'], capsys.readouterr().out


def test_the_same_settings_are_exact(checkpoint, tmp_path, capsys):
    iterations, output = resume(checkpoint, tmp_path / 'run', capsys)
    assert iterations == 5
    assert 'not exactly' not in output


def test_another_batch_size_continues_at_the_same_fraction_of_the_epoch(checkpoint, tmp_path, capsys):
    # Two of ten batches remain. The schedule counts iterations, converted from epochs.
    options = ('train_dataloader.batch_size=16', 'reset_schedule=True')
    iterations, output = resume(checkpoint, tmp_path / 'run', capsys, *options)
    assert iterations == 4 + 2
    saved = torch.load((tmp_path / 'run/last_checkpoint').read_text(), weights_only=True)
    assert [state['last_step'] for state in saved['param_schedulers']] == [10, -1]  # the second has not started
    assert 'not exactly: an epoch had 5 batches and now has 10' in output


def test_a_checkpoint_of_mmengine_continues_from_its_iteration(checkpoint, tmp_path, capsys):
    content = torch.load(checkpoint, weights_only=True)
    del content['resume']
    torch.save(content, tmp_path / 'mmengine.pth')
    iterations, output = resume(tmp_path / 'mmengine.pth', tmp_path / 'run', capsys)
    assert iterations == 5
    assert 'not exactly: the checkpoint has no RNG state' in output


def test_another_number_of_processes(checkpoint, tmp_path, capsys):
    content = torch.load(checkpoint, weights_only=True)
    content['resume']['ranks'] *= 2  # as if two processes had finished two batches each
    content['resume']['place'] = (0, 2)
    torch.save(content, tmp_path / 'two.pth')
    iterations, output = resume(tmp_path / 'two.pth', tmp_path / 'run', capsys)
    assert iterations == 4 + 1  # two batches of each of two processes are four of one
    assert 'the checkpoint was saved by 2 processes, the run has 1' in output
