"""Training samples that cannot be read, replaced up to a cap and counted."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from reprefine.engine.errors import UserError, one_line

from .data_errors import UnreadableSample, name_unreadable_files
from .nesting import inner_datasets

FILE = 'corrupt_samples.txt'
EMPTY = '.empty_samples'


class Corrupt(NamedTuple):
    """A file of a sample that was replaced, and why."""

    file: str
    reason: str


class CorruptRecord:
    """What all workers and processes of a run, and those of the runs that it continues, could not read.

    It lives in two files of the work directory: ``corrupt_samples.txt`` holds a line for each distinct file, and
    ``.empty_samples`` a byte for each sample that a pipeline dropped. Machines that do not share the work directory
    count for themselves.

    Args:
        work_dir: The work directory.
        cap: Number of distinct files that may be replaced.
    """

    def __init__(self, work_dir: str, cap: int):
        self.path = Path(work_dir, FILE)
        self.empty = Path(work_dir, EMPTY)
        self.cap = cap

    def clear(self) -> None:
        """Forget the samples of a former run."""
        self.path.unlink(missing_ok=True)
        self.empty.unlink(missing_ok=True)

    def read(self) -> list[Corrupt]:
        """Return what was replaced, in the order in which it was met."""
        if not self.path.is_file():
            return []
        return [Corrupt(*line.split('\t', 1)) for line in self.path.read_text().splitlines()]

    def add(self, error: UnreadableSample) -> None:
        """Note that a sample is replaced.

        Raises:
            UserError: If as many as the cap allows have been.
        """
        if self.cap == 0:
            raise UserError(f'{error}; restore it, or replace up to N such samples with max_corrupt_samples=N')
        with self._locked():
            known = {corrupt.file for corrupt in self.read()}
            if error.file in known:
                return
            if len(known) >= self.cap:
                raise UserError(
                    f'{error}; {len(known)} others are replaced already ({self.path}), the limit max_corrupt_samples: '
                    'list all with tools/misc/verify_dataset.py and restore them, or raise the limit'
                )
            _append(self.path, f'{error.file}\t{one_line(error)}\n'.encode())

    def add_empty(self) -> None:
        """Note that a pipeline returned no sample, so that the data set draws another."""
        _append(self.empty, b'.')

    def count_empty(self) -> int:
        """Return how often a pipeline returned no sample."""
        return self.empty.stat().st_size if self.empty.is_file() else 0

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one process at a time count and add."""
        with open(self.path, 'a') as file:
            with suppress(OSError):  # a file system without locks may exceed the cap by the number of its readers
                fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _append(path: Path, content: bytes) -> None:
    """Add to a file by a single call, which several processes may do at once."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, content)
    finally:
        os.close(handle)


class ReplacingPreparation:
    """Prepares the samples of a training set; the next readable one stands in for one that cannot be read.

    Args:
        dataset: A data set of mmengine's kind whose pipeline raises :class:`.faults.UnreadableSample`.
        record: Where the replaced samples are counted.
    """

    def __init__(self, dataset: Any, record: CorruptRecord):
        self.dataset = dataset
        self.record = record

    def __call__(self, index: int | tuple[int, int]) -> Any:
        """Return the sample at ``index``, or the first readable one behind it, in the order of the data set.

        Raises:
            UserError: If the cap is reached, or no sample can be read.
        """
        if isinstance(index, tuple):  # a frame of a video, which no other can stand in for
            return type(self.dataset).prepare_data(self.dataset, index)
        for candidate in successors(index, len(self.dataset)):
            try:
                sample = type(self.dataset).prepare_data(self.dataset, candidate)
            except UnreadableSample as error:
                self.record.add(error)
            else:
                if sample is None:
                    self.record.add_empty()
                return sample
        raise UserError(f'no sample of {type(self.dataset).__name__} can be read, see {self.record.path}')


def successors(index: int, length: int) -> Iterator[int]:
    """Yield ``index`` and the others of a data set behind it, the first one after the last."""
    return ((index + step) % length for step in range(length))


def replace_unreadable(dataset: Any, record: CorruptRecord) -> None:
    """Let ``dataset``, and the data sets it wraps, replace what they cannot read.

    Data sets without pipelines of mmengine's kind stay as they are. Never do it to validation or test data: metrics
    over other samples would be wrong.

    Args:
        dataset: A training set, changed in place; before its workers start.
        record: Where the replaced samples are counted.
    """
    name_unreadable_files(dataset)
    if hasattr(type(dataset), 'prepare_data'):
        dataset.prepare_data = ReplacingPreparation(dataset, record)
    for inner in inner_datasets(dataset):
        replace_unreadable(inner, record)
