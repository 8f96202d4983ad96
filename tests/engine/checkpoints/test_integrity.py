"""Checkpoints are whole or not there, whatever happens while they are written."""

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
    partial = folder / integrity.partial_name(name)
    torch.save(dict(value=torch.full((100,), value)), partial)
    integrity.finalize(partial, folder / name)
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


@pytest.mark.parametrize('step', ['_flush', 'sha256', 'os.replace'])
def test_a_failure_at_any_step_leaves_the_former_checkpoint_usable(tmp_path, monkeypatch, step):
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


def test_the_former_checksum_never_stands_beside_the_new_file(tmp_path, monkeypatch):
    path = write(tmp_path, 'a.pth', 1)
    flush = integrity._flush

    def stop(target):
        if target == tmp_path:  # the new file is in its place, its checksum is not written
            raise OSError(errno.EIO, 'broken')
        flush(target)

    monkeypatch.setattr(integrity, '_flush', stop)
    with pytest.raises(OSError, match='broken'):
        write(tmp_path, 'a.pth', 2)
    assert integrity.find_corruption(path) is None
    assert torch.load(path, weights_only=True)['value'][0] == 2


def test_of_copies_of_equal_age_the_last_step_is_the_newest(tmp_path):
    paths = [write(tmp_path, f'iter_{step}.pth') for step in (900, 1000, 80)]
    for path in paths:
        os.utime(path, (1, 1))
    assert integrity.latest_valid_checkpoint(str(tmp_path)) == (paths[1], [])


@pytest.mark.parametrize('has_checksum', [True, False])
@pytest.mark.parametrize('damage', ['cut', 'flip', 'empty'])
def test_damage_is_found_with_and_without_a_checksum(tmp_path, has_checksum, damage):
    path = write(tmp_path, 'epoch_1.pth')
    if not has_checksum:
        integrity.checksum_file(path).unlink()
    assert integrity.find_corruption(path) is None
    content = bytearray(path.read_bytes())
    place = content.index(torch.zeros(100).numpy().tobytes()) + 7  # inside the tensor
    content[place] ^= 1
    path.write_bytes(dict(cut=content[:-200], flip=content, empty=b'')[damage])
    assert integrity.find_corruption(path) is not None


def test_the_newest_whole_one_is_found(tmp_path):
    assert integrity.latest_valid_checkpoint(str(tmp_path)) == (None, [])
    paths = {epoch: write(tmp_path, f'epoch_{epoch}.pth') for epoch in (2, 9, 10)}
    write(tmp_path, 'best_accuracy_epoch_11.pth')
    assert integrity.latest_valid_checkpoint(str(tmp_path)) == (paths[10], [])
    (tmp_path / 'last_checkpoint').write_text(str(paths[9]))
    assert integrity.latest_valid_checkpoint(str(tmp_path)) == (paths[9], [])
    paths[9].unlink()
    paths[10].write_bytes(b'')
    found, skipped = integrity.latest_valid_checkpoint(str(tmp_path))
    assert found == paths[2]
    assert [line.split(': ')[1] for line in skipped] == ['it does not exist', 'its checksum is another']
    paths[2].write_bytes(b'')
    with pytest.raises(UserError, match='no checkpoint to resume from: ') as caught:
        integrity.latest_valid_checkpoint(str(tmp_path))
    # The last two stand in the order of their times, which may be equal.
    assert all(path.name in str(caught.value) for path in paths.values())


def test_in_a_folder_that_was_moved_or_copied_the_newest_is_the_one_there(tmp_path):
    former, now = tmp_path / 'former', tmp_path / 'now'
    former.mkdir()
    write(former, 'epoch_1.pth')
    (former / 'last_checkpoint').write_text(str(write(former, 'epoch_2.pth')))
    shutil.copytree(former, now)
    assert integrity.latest_valid_checkpoint(str(now)) == (now / 'epoch_2.pth', [])
    shutil.rmtree(former)
    assert integrity.latest_valid_checkpoint(str(now)) == (now / 'epoch_2.pth', [])


def test_a_full_disk_is_named_and_other_errors_pass(tmp_path):
    with (
        pytest.raises(UserError, match='no space left to write .*a.pth .*--resume'),
        integrity.disk_full_as_user_error(tmp_path / 'a.pth'),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(PermissionError), integrity.disk_full_as_user_error(tmp_path / 'a.pth'):
        raise PermissionError(errno.EACCES, 'no')


def test_removals_wait_and_spare_what_was_written_since(tmp_path):
    old, same = write(tmp_path, 'old.pth'), write(tmp_path, 'same.pth', 1)
    backend = DeferredRemovalBackend()
    backend.remove(str(old))
    backend.remove(str(same))
    assert old.is_file()
    write(tmp_path, 'same.pth', 2)
    backend.remove_deferred()
    assert sorted(file.name for file in tmp_path.iterdir()) == ['same.pth', 'same.pth.sha256']
