"""Integrity of checkpoint files: atomic writes, SHA-256 checksums, and the latest valid checkpoint of a run.

This module does not import torch: tools use it before they do.
"""

import errno
import hashlib
import os
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from reprefine.engine.errors import UserError
from reprefine.engine.files import natural_key
from reprefine.engine.lock import is_first_process

SUFFIX = '.sha256'
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def checksum_file(checkpoint: Path) -> Path:
    """Return the file that holds the checksum of a checkpoint."""
    return checkpoint.with_name(checkpoint.name + SUFFIX)


@contextmanager
def atomic_checkpoint(target: Path, is_writer: bool = True) -> Iterator[Path]:
    """Yield a temporary file, and rename it to ``target`` when it is written, with a checksum beside it.

    After a crash at any time ``target`` is the former file or the new one, complete on the disk. The former checksum is
    deleted first, so that it never belongs to another file.

    Args:
        target: The checkpoint.
        is_writer: Whether this process writes the file; others only enter the block.

    Raises:
        UserError: If the disk is full.
    """
    partial = target.with_name(f'.{target.name}.partial')
    try:
        with disk_full_as_user_error(target):
            yield partial
            if is_writer:
                _fsync(partial)
                digest = sha256(partial)
                checksum_file(target).unlink(missing_ok=True)
                os.replace(partial, target)
                _fsync(target.parent)
                with open(checksum_file(target), 'w') as file:
                    file.write(f'{digest}  {target.name}\n')  # the format of sha256sum
                    file.flush()
                    os.fsync(file.fileno())
    finally:
        if is_writer:
            partial.unlink(missing_ok=True)


@contextmanager
def disk_full_as_user_error(target: Path) -> Iterator[None]:
    """Raise a :class:`UserError` if the disk is full while ``target`` is written."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        raise UserError(
            f'no space left to write {target} ({error.strerror}); earlier checkpoints are untouched: free some space '
            'and continue with --resume'
        ) from error


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def remove_checkpoint(checkpoint: Path) -> None:
    """Delete a checkpoint and its checksum, if they exist."""
    checkpoint.unlink(missing_ok=True)
    checksum_file(checkpoint).unlink(missing_ok=True)


def find_corruption(checkpoint: Path) -> str | None:
    """Return why a checkpoint is corrupted, None if it is valid.

    The file is compared with the checksum beside it, or else with the checksums that torch keeps inside the file.
    """
    if not checkpoint.is_file():
        return 'it does not exist'
    recorded, stat = checksum_file(checkpoint), checkpoint.stat()
    expected = (recorded.read_text().split() or [''])[0] if recorded.is_file() else None
    return _find_corruption(checkpoint, expected, (stat.st_ino, stat.st_mtime_ns, stat.st_size))


@lru_cache(16)  # the checkpoint that was found valid is read next
def _find_corruption(checkpoint: Path, expected: str | None, file_state: tuple[int, ...]) -> str | None:
    if expected is not None:
        return None if expected == sha256(checkpoint) else f'its checksum differs from that in its {SUFFIX} file'
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as error:
        return f'it is truncated or damaged ({type(error).__name__})'
    return None if damaged is None else f'it is damaged ({damaged})'


def check_checkpoint_exists(filename: str) -> None:
    """Refuse a local path without a file.

    Raises:
        UserError: With the checkpoints in the same folder.
    """
    if '://' not in filename and not os.path.isfile(os.path.expanduser(filename)):
        folder = Path(filename).expanduser().parent
        found = (path for kind in ('pth', 'safetensors') for path in folder.glob(f'*.{kind}'))
        others = ', '.join(path.name for path in sorted(found, key=natural_key))
        raise UserError(f'checkpoint {filename} does not exist' + (f'; its folder holds {others}' if others else ''))


def find_latest_checkpoint(work_dir: str) -> str | None:
    """Return the latest valid checkpoint of training in a work directory, or None if there are none.

    The first process prints a line for each later checkpoint that is skipped.

    Args:
        work_dir: The folder.

    Raises:
        UserError: If there are checkpoints, but none is valid.
    """
    skipped: list[str] = []
    for checkpoint in _candidates(Path(work_dir)):
        corruption = find_corruption(checkpoint)
        if corruption is None:
            if is_first_process():
                for line in skipped:
                    print(f'not resumed from {line}', file=sys.stderr)
            return str(checkpoint)
        skipped.append(f'{checkpoint}: {corruption}')
    if skipped:
        raise UserError(f'no checkpoint to resume from: {"; ".join(skipped)}; start again in another --work-dir')
    return None


def refuse_existing_run(work_dir: str | Path) -> None:
    """Refuse to start a run in a folder with checkpoints of another one, which it would overwrite.

    Raises:
        UserError: If there are any.
    """
    if any(Path(work_dir).glob('*.pth')):
        raise UserError(
            f'work dir {work_dir} already holds checkpoints of a run: continue it with --resume (resume=True), give '
            'another --work-dir (work_dir), or remove it'
        )


def _candidates(work_dir: Path) -> Iterator[Path]:
    """Yield the checkpoint that the file ``last_checkpoint`` names, then the others, the last written first.

    In a folder that was moved or copied, ``last_checkpoint`` names a file in another one; the copy here is used.
    """
    pointer = work_dir / 'last_checkpoint'
    named = Path(pointer.read_text().strip()) if pointer.is_file() else None
    if named is not None:
        here = work_dir / named.name
        yield here if here.is_file() else named
    # Sorted by time, because epochs and iterations cannot be compared, and then by step, for copies of equal time.
    others = [path for path in work_dir.glob('*.pth') if _step(path) and (named is None or path.name != named.name)]
    yield from sorted(others, key=lambda path: (path.stat().st_mtime, int(_step(path))), reverse=True)


def _step(path: Path) -> str:
    """Return N of ``epoch_N.pth`` or ``iter_N.pth``, an empty string for other names."""
    kind, _, step = path.stem.partition('_')
    return step if kind in ('epoch', 'iter') and step.isdecimal() else ''


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
