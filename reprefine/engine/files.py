"""Atomic writes, natural sorting of file names, and text files of users."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reprefine.engine.errors import UserError


@contextmanager
def atomic_write(path: str | Path | None) -> Iterator[str | None]:
    """Yield the name of a temporary file, and rename it to ``path`` unless an error is raised.

    Args:
        path: The file to write; None yields None.
    """
    if path is None:
        yield None
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f'.{target.stem}.{os.getpid()}{target.suffix}')
    try:
        yield str(partial)
        if partial.exists():  # of several processes only the main one writes
            os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def natural_key(path: Path) -> list[str | int]:
    """Return a key that sorts file names with their numbers by value: ``epoch_1000`` follows ``epoch_999``."""
    return [int(part) if part.isdecimal() else part for part in re.split(r'([0-9]+)', path.name)]


def link_or_copy(source: Path, target: Path) -> None:
    """Make ``target`` a hard link to ``source``, or a copy if the file system has no hard links."""
    with atomic_write(target) as partial:
        try:
            os.link(source.resolve(), partial)
        except OSError:
            shutil.copyfile(source, partial)


def read_text(file: str | Path) -> str:
    """Return the content of a UTF-8 file without the byte-order mark that editors on Windows add.

    Raises:
        UserError: If it is not UTF-8.
    """
    try:
        return Path(file).read_text(encoding='utf-8-sig')
    except UnicodeDecodeError as error:
        raise UserError(f'{file} is not UTF-8 text (byte {error.start}): save it as UTF-8') from error
