"""Lock of a work directory, in which one run is active at a time."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from reprefine.engine.errors import UserError

FILE = '.lock'
_locked_files: set[IO] = set()


def _release_in_child() -> None:
    """Close the files in a forked process: a loader worker that outlives its killed run would keep the lock."""
    while _locked_files:
        _locked_files.pop().close()


os.register_at_fork(after_in_child=_release_in_child)


def is_first_process() -> bool:
    """Whether this is the first or only process of a run, from its environment variables alone."""
    return os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0')) == '0'


@contextmanager
def lock_work_dir(work_dir: str | Path) -> Iterator[None]:
    """Lock a work directory for this run; in a run of several processes the first one does.

    The operating system releases the lock when the process ends in any way, so that it is never stale. The lock file
    names the process.

    Args:
        work_dir: The folder; created if it does not exist.

    Raises:
        UserError: If another run has locked it.
    """
    if not is_first_process():
        yield
        return
    path = Path(work_dir, FILE)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'a+') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise UserError(
                f'work dir {work_dir} is in use by {file.read().strip() or "another process"}: wait for it, stop it, '
                'or give another --work-dir'
            ) from error
        except OSError:  # a file system without locks
            yield
            return
        file.truncate(0)
        file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
        file.flush()
        _locked_files.add(file)
        try:
            yield
        finally:
            _locked_files.discard(file)
