"""One run at a time in a work directory."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from reprefine.engine.errors import UserError

FILE = '.lock'
_held: set[IO] = set()


def _let_go() -> None:
    """Close the files in a forked process: a loader worker that outlives its killed run would keep the lock."""
    while _held:
        _held.pop().close()


os.register_at_fork(after_in_child=_let_go)


def is_first_process() -> bool:
    """Tell whether this is the first process of a run, or its only one, before they have met."""
    return os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0')) == '0'


@contextmanager
def lock_work_dir(work_dir: str | Path) -> Iterator[None]:
    """Keep other runs out of a work directory. Of several processes of a run the first one does.

    The lock is the operating system's and ends with the process, however that ends, so that none is ever stale. The
    file names the process that holds it.

    Args:
        work_dir: The folder; made when needed.

    Raises:
        UserError: If another run holds it.
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
        _held.add(file)
        try:
            yield
        finally:
            _held.discard(file)
