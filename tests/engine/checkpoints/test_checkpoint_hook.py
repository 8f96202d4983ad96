"""A full disk leaves the earlier checkpoint, and old checkpoints are deleted only after the next one is written."""

import errno
from pathlib import Path

import mmengine.runner.runner
import pytest
import torch
from mmengine.hooks import CheckpointHook

from reprefine.engine.checkpoints import integrity
from reprefine.engine.checkpoints.checkpoint_hook import SafeCheckpointHook
from reprefine.engine.runner import Runner
from tests.helpers.run import train_digits

EPOCHS = ('train_cfg.max_epochs=3', 'default_hooks.checkpoint.max_keep_ckpts=1')


def test_configs_of_mmengines_hook_build_it(tmp_path):
    """The class of a given hook and the config are not changed."""
    given, cfg = CheckpointHook(), dict(type='CheckpointHook', interval=3, priority='LOW')
    runner = Runner(torch.nn.Linear(1, 1), str(tmp_path), experiment_name='hooks', custom_hooks=[given])
    runner.register_hook(cfg)
    hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    assert [type(hook) for hook in hooks] == [SafeCheckpointHook, SafeCheckpointHook, CheckpointHook]
    assert (hooks[0].interval, hooks[0].priority) == (3, 'LOW')
    assert type(given) is CheckpointHook
    assert cfg['type'] == 'CheckpointHook'


def names(folder):
    """Checkpoints and checksums."""
    return sorted(path.name for path in folder.iterdir() if '.pth' in path.name)


def test_max_keep_ckpts_are_kept_each_with_its_checksum(tmp_path):
    assert train_digits(tmp_path, '--cfg-options', *EPOCHS, 'default_hooks.checkpoint.save_best=auto') == 0
    best = [name for name in names(tmp_path) if name.startswith('best')]
    assert names(tmp_path) == [*best, 'epoch_3.pth', 'epoch_3.pth.sha256']
    assert len(best) == 2
    assert all(integrity.find_corruption(path) is None for path in tmp_path.glob('*.pth'))


@pytest.fixture
def full_disk(monkeypatch):
    """A disk that is full when the checkpoint of the second epoch is written."""
    real = mmengine.runner.runner.save_checkpoint

    def save(checkpoint, filename, **options):
        if checkpoint['meta']['epoch'] == 2:
            Path(filename).write_bytes(b'half')
            raise OSError(errno.ENOSPC, 'No space left on device')
        real(checkpoint, filename, **options)

    monkeypatch.setattr(mmengine.runner.runner, 'save_checkpoint', save)
    return monkeypatch


def test_a_full_disk_is_one_line_and_the_run_can_be_resumed(tmp_path, full_disk, capsys):
    assert train_digits(tmp_path, '--cfg-options', *EPOCHS) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert f'no space left to write {tmp_path}/epoch_2.pth' in error
    assert names(tmp_path) == ['epoch_1.pth', 'epoch_1.pth.sha256']
    full_disk.undo()
    assert train_digits(tmp_path, '--resume', '--cfg-options', *EPOCHS) == 0
    assert names(tmp_path) == ['epoch_3.pth', 'epoch_3.pth.sha256']
    assert torch.load(tmp_path / 'epoch_3.pth', weights_only=True)['meta']['epoch'] == 3


def test_a_resumed_run_writes_its_last_checkpoint_again_if_its_validation_is_the_best(tmp_path, monkeypatch):
    options = ('--cfg-options', 'train_cfg.max_epochs=1', 'default_hooks.checkpoint.save_best=auto')
    call_hook = Runner.call_hook

    def crash(runner, name, **kwargs):
        if name == 'before_val':
            raise OSError
        call_hook(runner, name, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Runner, 'call_hook', crash)
        assert train_digits(tmp_path, *options) == 1
    assert 'best_ckpt' not in runtime_info(tmp_path / 'epoch_1.pth')
    assert train_digits(tmp_path, '--resume', *options) == 0
    assert Path(runtime_info(tmp_path / 'epoch_1.pth')['best_ckpt']).name in names(tmp_path)


def runtime_info(checkpoint):
    """Runtime info of the message hub in a checkpoint."""
    return torch.load(checkpoint, weights_only=True)['message_hub']['runtime_info']
