"""Training samples that cannot be read: counted over all workers and ranks, and replaced up to a limit."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from reprefine.engine.errors import UserError, one_line

from .unreadable import UnreadableSample, name_unreadable_files
from .wrappers import wrapped_datasets

FILE = 'corrupt_samples.txt'
EMPTY = '.empty_samples'


class CorruptSample(NamedTuple):
    """A file whose sample was replaced, and why."""

    file: str
    reason: str


class CorruptRecord:
    """The corrupted samples of a run and of the runs that it resumes, shared by all workers and ranks.

    It is kept in two files of the work dir: ``corrupt_samples.txt`` holds a line for each distinct file, and
    ``.empty_samples`` a byte for each sample for which a pipeline returned None. Machines that do not share the work
    dir count for themselves.

    Args:
        work_dir: The work dir.
        limit: Number of distinct files that may be replaced.
    """

    def __init__(self, work_dir: str, limit: int):
        self.path = Path(work_dir, FILE)
        self.empty = Path(work_dir, EMPTY)
        self.limit = limit

    def clear(self) -> None:
        """Delete the record of a former run."""
        self.path.unlink(missing_ok=True)
        self.empty.unlink(missing_ok=True)

    def read(self) -> list[CorruptSample]:
        """Return the replaced samples in the order in which they were read."""
        if not self.path.is_file():
            return []
        return [CorruptSample(*line.split('\t', 1)) for line in self.path.read_text().splitlines()]

    def add(self, error: UnreadableSample) -> None:
        """Record that a sample is replaced.

        Raises:
            UserError: If the limit is reached.
        """
        if self.limit == 0:
            raise UserError(f'{error}; restore it, or replace up to N such samples with max_corrupt_samples=N')
        with self._locked():
            known = {corrupt.file for corrupt in self.read()}
            if error.file in known:
                return
            if len(known) >= self.limit:
                raise UserError(
                    f'{error}; {len(known)} others are replaced already ({self.path}), the limit max_corrupt_samples: '
                    'list all with tools/misc/verify_dataset.py and restore them, or raise the limit'
                )
            _append(self.path, f'{error.file}\t{one_line(error)}\n'.encode())

    def add_empty(self) -> None:
        """Record that a pipeline returned None, for which the dataset draws another sample."""
        _append(self.empty, b'.')

    def count_empty(self) -> int:
        """Return how often a pipeline returned None."""
        return self.empty.stat().st_size if self.empty.is_file() else 0

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with open(self.path, 'a') as file:
            with suppress(OSError):  # without file locks, the limit may be exceeded by the number of processes
                fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _append(path: Path, content: bytes) -> None:
    """Append to a file by a single system call, which several processes may do concurrently."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, content)
    finally:
        os.close(handle)


class ReplacingPrepareData:
    """``prepare_data`` of a training set that replaces an unreadable sample by the next readable one.

    Args:
        dataset: A ``BaseDataset`` whose pipeline raises :class:`.unreadable.UnreadableSample`.
        record: Counts the replaced samples.
    """

    def __init__(self, dataset: Any, record: CorruptRecord):
        self.dataset = dataset
        self.record = record

    def __call__(self, index: int | tuple[int, int]) -> Any:
        """Return the sample at ``index``, or the first readable one after it, wrapping around at the end.

        Raises:
            UserError: If the limit is reached, or no sample can be read.
        """
        if isinstance(index, tuple):  # a frame of a video, for which there is no replacement
            return type(self.dataset).prepare_data(self.dataset, index)
        for candidate in indices_from(index, len(self.dataset)):
            try:
                sample = type(self.dataset).prepare_data(self.dataset, candidate)
            except UnreadableSample as error:
                self.record.add(error)
            else:
                if sample is None:
                    self.record.add_empty()
                return sample
        raise UserError(
            f'no sample of {type(self.dataset).__name__} can be read, see {self.record.path}: restore the files'
        )


def indices_from(index: int, length: int) -> Iterator[int]:
    """Yield all indices of a dataset of ``length`` samples from ``index`` on, wrapping around at the end."""
    return ((index + step) % length for step in range(length))


def replace_unreadable(dataset: Any, record: CorruptRecord) -> None:
    """Make a dataset, and those it wraps, replace the samples that they cannot read.

    Datasets without a pipeline of mmengine are unchanged. Never use it for validation or test data: metrics over other
    samples would be wrong.

    Args:
        dataset: A training set, changed in place, before its workers start.
        record: Counts the replaced samples.
    """
    name_unreadable_files(dataset)
    if hasattr(type(dataset), 'prepare_data'):
        dataset.prepare_data = ReplacingPrepareData(dataset, record)
    for inner in wrapped_datasets(dataset).values():
        replace_unreadable(inner, record)
