"""Checkpoint writes are atomic, and the latest valid checkpoint is found."""

import errno
import hashlib
import os
import shutil

import pytest
import torch

from reprefine.engine.checkpoints import integrity
from reprefine.engine.checkpoints.checkpoint_hook import DeferredRemovalBackend
from reprefine.engine.errors import UserError


def write(folder, name, value=0):
    """A checkpoint with its checksum."""
    with integrity.atomic_checkpoint(folder / name) as partial:
        torch.save(dict(value=torch.full((100,), value)), partial)
    return folder / name


def test_checksum_is_that_of_the_file_and_readable_by_sha256sum(tmp_path):
    path = write(tmp_path, 'epoch_1.pth')
    digest, name = (tmp_path / 'epoch_1.pth.sha256').read_text().split()
    assert (digest, name) == (hashlib.sha256(path.read_bytes()).hexdigest(), 'epoch_1.pth')
    assert sorted(file.name for file in tmp_path.iterdir()) == ['epoch_1.pth', 'epoch_1.pth.sha256']


def test_writing_again_replaces_both(tmp_path):
    first = integrity.sha256(write(tmp_path, 'a.pth', 0))
    second = integrity.sha256(write(tmp_path, 'a.pth', 1))
    assert first != second
    assert integrity.find_corruption(tmp_path / 'a.pth') is None


@pytest.mark.parametrize('step', ['_fsync', 'sha256', 'os.replace'])
def test_a_failure_at_any_step_leaves_the_former_checkpoint_valid(tmp_path, monkeypatch, step):
    path = write(tmp_path, 'a.pth', 1)

    def fail(*args):
        raise OSError(errno.EIO, 'broken')

    owner = integrity.os if step.startswith('os.') else integrity
    monkeypatch.setattr(owner, step.removeprefix('os.'), fail)
    with pytest.raises(OSError, match='broken'):
        write(tmp_path, 'a.pth', 2)
    monkeypatch.undo()
    assert integrity.find_corruption(path) is None
    assert torch.load(path, weights_only=True)['value'][0] == 1


def test_the_former_checksum_is_never_beside_the_new_file(tmp_path, monkeypatch):
    path = write(tmp_path, 'a.pth', 1)
    fsync = integrity._fsync

    def stop(target):
        if target == tmp_path:  # the new file is renamed, its checksum is not written
            raise OSError(errno.EIO, 'broken')
        fsync(target)

    monkeypatch.setattr(integrity, '_fsync', stop)
    with pytest.raises(OSError, match='broken'):
        write(tmp_path, 'a.pth', 2)
    assert integrity.find_corruption(path) is None
    assert torch.load(path, weights_only=True)['value'][0] == 2


def test_of_files_of_equal_age_the_last_step_is_the_latest(tmp_path):
    paths = [write(tmp_path, f'iter_{step}.pth') for step in (900, 1000, 80)]
    for path in paths:
        os.utime(path, (1, 1))
    assert integrity.find_latest_checkpoint(str(tmp_path)) == str(paths[1])


@pytest.mark.parametrize('has_checksum', [True, False])
@pytest.mark.parametrize('damage', ['cut', 'flip', 'empty'])
def test_damage_is_found_with_and_without_a_checksum(tmp_path, has_checksum, damage):
    path = write(tmp_path, 'epoch_1.pth')
    if not has_checksum:
        integrity.checksum_file(path).unlink()
    assert integrity.find_corruption(path) is None
    content = bytearray(path.read_bytes())
    position = content.index(torch.zeros(100).numpy().tobytes()) + 7  # inside the tensor
    content[position] ^= 1
    path.write_bytes(dict(cut=content[:-200], flip=content, empty=b'')[damage])
    assert integrity.find_corruption(path) is not None


def test_the_latest_valid_one_is_found(tmp_path, capsys):
    assert integrity.find_latest_checkpoint(str(tmp_path)) is None
    paths = {epoch: write(tmp_path, f'epoch_{epoch}.pth') for epoch in (2, 9, 10)}
    write(tmp_path, 'best_accuracy_epoch_11.pth')
    assert integrity.find_latest_checkpoint(str(tmp_path)) == str(paths[10])
    (tmp_path / 'last_checkpoint').write_text(str(paths[9]))
    assert integrity.find_latest_checkpoint(str(tmp_path)) == str(paths[9])
    assert not capsys.readouterr().err
    paths[9].unlink()
    paths[10].write_bytes(b'')
    assert integrity.find_latest_checkpoint(str(tmp_path)) == str(paths[2])
    assert capsys.readouterr().err.splitlines() == [
        f'not resumed from {paths[9]}: it does not exist',
        f'not resumed from {paths[10]}: its checksum differs from that in its .sha256 file',
    ]
    paths[2].write_bytes(b'')
    with pytest.raises(UserError, match='no checkpoint to resume from: ') as caught:
        integrity.find_latest_checkpoint(str(tmp_path))
    # The last two are sorted by their times, which may be equal.
    assert all(path.name in str(caught.value) for path in paths.values())


def test_in_a_moved_or_copied_folder_the_checkpoint_there_is_found(tmp_path):
    former, now = tmp_path / 'former', tmp_path / 'now'
    former.mkdir()
    write(former, 'epoch_1.pth')
    (former / 'last_checkpoint').write_text(str(write(former, 'epoch_2.pth')))
    shutil.copytree(former, now)
    assert integrity.find_latest_checkpoint(str(now)) == str(now / 'epoch_2.pth')
    shutil.rmtree(former)
    assert integrity.find_latest_checkpoint(str(now)) == str(now / 'epoch_2.pth')


def test_a_full_disk_is_named_and_other_errors_pass(tmp_path):
    with (
        pytest.raises(UserError, match='no space left to write .*a.pth .*--resume'),
        integrity.disk_full_as_user_error(tmp_path / 'a.pth'),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(PermissionError), integrity.disk_full_as_user_error(tmp_path / 'a.pth'):
        raise PermissionError(errno.EACCES, 'no')


def test_removals_are_deferred_and_keep_files_written_since(tmp_path):
    old, same = write(tmp_path, 'old.pth'), write(tmp_path, 'same.pth', 1)
    backend = DeferredRemovalBackend()
    backend.remove(str(old))
    backend.remove(str(same))
    assert old.is_file()
    write(tmp_path, 'same.pth', 2)
    backend.remove_deferred()
    assert sorted(file.name for file in tmp_path.iterdir()) == ['same.pth', 'same.pth.sha256']
