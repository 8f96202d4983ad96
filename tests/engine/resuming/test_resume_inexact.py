"""Runs that cannot go on exactly say so, and go on at the corresponding place."""

import pytest
import torch

from tests.helpers.run import DIGITS, run_train

from .test_resume import BY_ITER, OPTIONS


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """Four of five batches of the first epoch are done."""
    folder = tmp_path_factory.mktemp('first')
    options = (*OPTIONS, *BY_ITER, 'train_cfg.max_epochs=1', 'default_hooks.checkpoint.max_keep_ckpts=-1')
    assert run_train(DIGITS, '--work-dir', str(folder), *options) == 0
    return folder / 'iter_4.pth'


def resumed(checkpoint, folder, capsys, *options):
    argv = ('--work-dir', str(folder), '--resume', str(checkpoint), *OPTIONS, *BY_ITER)
    assert run_train(DIGITS, *argv, 'train_cfg.max_epochs=1', *options) == 0
    final = torch.load((folder / 'last_checkpoint').read_text(), weights_only=True)
    return final['meta']['iter'], capsys.readouterr().out


def test_the_same_settings_are_exact(checkpoint, tmp_path, capsys):
    iterations, said = resumed(checkpoint, tmp_path / 'run', capsys)
    assert iterations == 5
    assert 'not exactly' not in said


def test_another_batch_size_goes_on_at_the_same_share_of_the_epoch(checkpoint, tmp_path, capsys):
    # Eight of ten batches are done: two remain. The schedule is one of iterations that follow from epochs.
    options = ('train_dataloader.batch_size=16', 'reset_schedule=True')
    iterations, said = resumed(checkpoint, tmp_path / 'run', capsys, *options)
    assert iterations == 4 + 2
    saved = torch.load((tmp_path / 'run/last_checkpoint').read_text(), weights_only=True)
    assert [state['last_step'] for state in saved['param_schedulers']] == [10, -1]  # the second begins later
    assert 'not exactly as if the run had not been stopped: an epoch had 5 batches' in said


def test_a_checkpoint_of_mmengine_goes_on_at_its_iteration(checkpoint, tmp_path, capsys):
    content = torch.load(checkpoint, weights_only=True)
    del content['resume']
    torch.save(content, tmp_path / 'theirs.pth')
    iterations, said = resumed(tmp_path / 'theirs.pth', tmp_path / 'run', capsys)
    assert iterations == 5
    assert 'not exactly as if the run had not been stopped: the checkpoint was written without the random state' in said


def test_more_processes_than_wrote_it(checkpoint, tmp_path, capsys):
    content = torch.load(checkpoint, weights_only=True)
    content['resume']['ranks'] *= 2  # as if two processes had done four batches each, eight of which remain two
    content['resume']['place'] = (0, 2)
    torch.save(content, tmp_path / 'two.pth')
    iterations, said = resumed(tmp_path / 'two.pth', tmp_path / 'run', capsys)
    assert iterations == 4 + 1  # two batches of each of two are four of one
    assert 'the checkpoint was written by 2 processes' in said
