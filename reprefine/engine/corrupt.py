"""Training samples that cannot be read: replaced up to a cap, counted, and listed at the end."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.dist import barrier, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from .errors import UserError, one_line
from .faults import UnreadableSample, inner_datasets, name_unreadable_files

FILE = 'corrupt_samples.txt'
EMPTY = '.empty_samples'
POLL = 50  # iterations between two looks at the record


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
            raise UserError(f'{error}; restore it, or let training replace up to N such samples with max_corrupt=N')
        with self._locked():
            known = {corrupt.file for corrupt in self.read()}
            if error.file in known:
                return
            if len(known) >= self.cap:
                raise UserError(
                    f'{error}; {len(known)} others are replaced already ({self.path}) and max_corrupt allows no more: '
                    'list all with tools/misc/verify_dataset.py and restore them, or raise max_corrupt'
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


class CorruptSamplesHook(Hook):
    """Warn once of each replaced sample, and list all of them when training ends.

    Args:
        record: Where they are counted.
        resumed: Whether the record of a former run is continued; otherwise it is cleared.
    """

    priority = 'LOW'

    def __init__(self, record: CorruptRecord, resumed: bool):
        self.record = record
        if is_main_process() and not resumed:
            record.clear()
        barrier()
        self._told = len(record.read())

    def before_train_epoch(self, runner: Runner) -> None:
        """Reach the pipelines that other hooks have exchanged."""
        name_unreadable_files(runner.train_dataloader.dataset)

    def after_train_iter(self, runner: Runner, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        """Look at the record now and then: it is on the disk, whichever worker has written it."""
        if self.every_n_train_iters(runner, POLL):
            self._warn(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Warn of what is new."""
        self._warn(runner)

    def after_train(self, runner: Runner) -> None:
        """List everything that was replaced."""
        self._warn(runner)
        corrupt, empty = self.record.read(), self.record.count_empty()
        if corrupt:
            lines = ''.join(f'\n  {one.reason}' for one in corrupt)
            runner.logger.warning(
                f'{len(corrupt)} training samples could not be read and were replaced, as {self.record.path} lists '
                f'(max_corrupt = {self.record.cap}):{lines}'
            )
        if empty:
            runner.logger.warning(
                f'pipelines returned no sample {empty} times, such as when a crop leaves no object; the data sets drew '
                'others instead'
            )

    def _warn(self, runner: Runner) -> None:
        if not is_main_process():
            return
        for one in self.record.read()[self._told :]:
            runner.logger.warning(f'replaced by the next sample: {one.reason}')
            self._told += 1


def build_tolerant_loader(runner: Runner) -> None:
    """Build the training loader of a runner, in place, over a data set that replaces unreadable samples.

    Call it before the training loop is built: a loop over iterations starts the workers at once. The top-level config
    key ``max_corrupt`` is the number of distinct files that may be replaced, default 0; the hook that lists them is
    registered.

    Args:
        runner: A runner of mmengine's kind.
    """
    record = CorruptRecord(runner.work_dir, runner.cfg.get('max_corrupt', 0))
    runner.register_hook(CorruptSamplesHook(record, runner._resume))
    different = runner._randomness_cfg.get('diff_rank_seed', False)
    loader = runner.build_dataloader(runner._train_dataloader, seed=runner.seed, diff_rank_seed=different)
    replace_unreadable(loader.dataset, record)
    runner._train_dataloader = loader
