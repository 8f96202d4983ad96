"""Image lists: text files with ``path label`` in each line, as mmpretrain's ``ann_file``."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write, read_text

Samples = Sequence[tuple[str, int]]


def read_list(file: Path) -> list[tuple[str, int]]:
    """Return path and label of every image.

    Raises:
        UserError: The file is missing or empty, or a line is not ``path label``.
    """
    if not file.is_file():
        raise UserError(f'image list {file} does not exist')
    samples = []
    for number, line in enumerate(read_text(file).splitlines(), 1):
        path, _, label = line.rpartition(' ')
        if not path or not label.isdecimal():
            raise UserError(f'{file}, line {number}: {line[:60]!r} is not "path label"')
        samples.append((path, int(label)))
    if not samples:
        raise UserError(f'image list {file} is empty')
    return samples


def write_list(samples: Samples, file: Path) -> None:
    """Write a list atomically; missing parent folders are created."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as path:
        Path(path).write_text(''.join(f'{path} {label}\n' for path, label in samples))


def class_counts(samples: Samples, at_least: int = 0) -> np.ndarray:
    """Return the number of images of each label, int64 of shape (C,) with C >= ``at_least``."""
    return np.bincount([label for _, label in samples], minlength=at_least)
