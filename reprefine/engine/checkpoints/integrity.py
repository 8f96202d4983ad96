"""Checkpoints that are whole or not there, and can be told from damaged ones.

A file is written under another name in the same folder, flushed to the disk, given a checksum beside it, and renamed.
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

SUFFIX = '.sha256'
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def partial_name(filename: str) -> str:
    """Return the name under which ``filename`` is written before it is complete."""
    return f'.{filename}.partial'


def checksum_file(checkpoint: Path) -> Path:
    """Return the file that holds the checksum of a checkpoint."""
    return checkpoint.with_name(checkpoint.name + SUFFIX)


@contextmanager
def disk_full_as_user_error(target: Path) -> Iterator[None]:
    """Turn a disk without space, met while ``target`` is written, into one line.

    Raises:
        UserError: If there is no space.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        raise UserError(
            f'no space left to write {target} ({error.strerror}); earlier checkpoints are untouched: free some space '
            'and continue with --resume'
        ) from error


def finalize(partial: Path, target: Path) -> None:
    """Turn a file that was written completely into ``target``, on the disk and with its checksum.

    Whenever the machine stops, ``target`` is the former file or the new one. The old checksum goes first, so that it
    never stands beside a file it does not belong to.

    Args:
        partial: The file, in the folder of ``target``.
        target: Its final name.
    """
    _flush(partial)
    digest = sha256(partial)
    checksum_file(target).unlink(missing_ok=True)
    os.replace(partial, target)
    _flush(target.parent)
    with open(checksum_file(target), 'w') as file:
        file.write(f'{digest}  {target.name}\n')  # as sha256sum writes and reads it
        file.flush()
        os.fsync(file.fileno())


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def remove_checkpoint(checkpoint: Path) -> None:
    """Delete a checkpoint and its checksum, if they are there."""
    checkpoint.unlink(missing_ok=True)
    checksum_file(checkpoint).unlink(missing_ok=True)


def find_corruption(checkpoint: Path) -> str | None:
    """Return what is wrong with a checkpoint, None if it is whole.

    Without a checksum beside it, those that torch keeps inside the file are looked at.
    """
    if not checkpoint.is_file():
        return 'it does not exist'
    recorded, stat = checksum_file(checkpoint), checkpoint.stat()
    expected = (recorded.read_text().split() or [''])[0] if recorded.is_file() else None
    return _fault(checkpoint, expected, (stat.st_ino, stat.st_mtime_ns, stat.st_size))


@lru_cache(16)  # the checkpoint that was found whole is read next
def _fault(checkpoint: Path, expected: str | None, state: tuple[int, ...]) -> str | None:
    """Return what is wrong with a file; ``state`` tells it from what it was before."""
    if expected is not None:
        return None if expected == sha256(checkpoint) else 'its checksum is another'
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as error:
        return f'it is cut short or damaged ({type(error).__name__})'
    return None if damaged is None else f'it is damaged ({damaged})'


def check_checkpoint_exists(filename: str) -> None:
    """Refuse a local path that names no file."""
    if '://' not in filename and not os.path.isfile(os.path.expanduser(filename)):
        folder = Path(filename).expanduser().parent
        found = (path for kind in ('pth', 'safetensors') for path in folder.glob(f'*.{kind}'))
        others = ', '.join(path.name for path in sorted(found, key=natural_key))
        raise UserError(f'checkpoint {filename} does not exist' + (f'; its folder holds {others}' if others else ''))


def latest_valid_checkpoint(work_dir: str) -> tuple[Path | None, list[str]]:
    """Return the newest whole checkpoint of training in a work directory, and a line for each newer one passed over.

    Args:
        work_dir: The folder.

    Raises:
        UserError: If there are checkpoints, and all are damaged.
    """
    skipped = []
    for checkpoint in _candidates(Path(work_dir)):
        fault = find_corruption(checkpoint)
        if fault is None:
            return checkpoint, skipped
        skipped.append(f'{checkpoint}: {fault}')
    if skipped:
        raise UserError(f'no checkpoint to resume from: {"; ".join(skipped)}; start anew in another --work-dir')
    return None, []


def find_latest_checkpoint(work_dir: str) -> str | None:
    """Return the newest whole checkpoint of a run in ``work_dir``, or None if it wrote none; say what is passed over.

    Raises:
        UserError: If all that it wrote is gone or damaged.
    """
    checkpoint, skipped = latest_valid_checkpoint(work_dir)
    if os.environ.get('RANK', '0') == '0':
        for line in skipped:
            print(f'not resumed from {line}', file=sys.stderr)
    return None if checkpoint is None else str(checkpoint)


def refuse_existing_run(work_dir: str | Path) -> None:
    """Refuse to start a run where another has left checkpoints, which the new one would replace.

    Raises:
        UserError: If there are any.
    """
    if any(Path(work_dir).glob('*.pth')):
        raise UserError(
            f'work dir {work_dir} already holds checkpoints of a run: continue it with --resume (resume=True), give '
            'another --work-dir (work_dir), or remove it'
        )


def _candidates(work_dir: Path) -> Iterator[Path]:
    """Yield what ``last_checkpoint`` names, then all ``epoch_*.pth`` and ``iter_*.pth``, the last written first.

    In a folder that was moved or copied, ``last_checkpoint`` names a file elsewhere: the one here is meant.
    """
    pointer = work_dir / 'last_checkpoint'
    named = Path(pointer.read_text().strip()) if pointer.is_file() else None
    if named is not None:
        here = work_dir / named.name
        yield here if here.is_file() else named
    # Epochs and iterations do not compare, so the time decides; of copies made in one go the step.
    others = [path for path in work_dir.glob('*.pth') if _step(path) and (named is None or path.name != named.name)]
    yield from sorted(others, key=lambda path: (path.stat().st_mtime, int(_step(path))), reverse=True)


def _step(path: Path) -> str:
    kind, _, step = path.stem.partition('_')
    return step if kind in ('epoch', 'iter') and step.isdecimal() else ''


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
