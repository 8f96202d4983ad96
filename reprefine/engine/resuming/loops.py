"""mmengine's train loops, which can start at any batch and restore the RNG state of a checkpoint there."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from mmengine.runner.base_loop import BaseLoop
from torch import nn

from reprefine.engine.build import class_of

from .data_loader import SeekableDataLoader, is_infinite
from .rng_state import get_rng_state, set_rng_state


class ExactLoop:
    """Mixin of both loops.

    Attributes:
        resumed_rng_state: RNG state to restore before the next iteration, or at the end of the epoch.
        epoch_rng_state: RNG state at the start of the current epoch of the data, from which some samplers draw.
    """

    resumed_rng_state: dict[str, Any] | None = None
    epoch_rng_state: dict[str, Any] | None = None

    def _iterate_from(self, epoch: int, batch: int) -> Iterator[Any]:
        """Return an iterator over the data that starts at a batch of an epoch."""
        if batch and self.epoch_rng_state is not None:
            set_rng_state(self.epoch_rng_state)
        else:
            self.epoch_rng_state = get_rng_state()
        if not isinstance(self.dataloader, SeekableDataLoader):
            return islice(self.dataloader, batch, None)  # without indices the batches have to be read
        self.dataloader.seek(epoch, batch)
        return iter(self.dataloader)

    def _restore_rng_state(self) -> None:
        if self.resumed_rng_state is not None:
            set_rng_state(self.resumed_rng_state)
            self.resumed_rng_state = None


class ExactEpochLoop(ExactLoop, EpochBasedTrainLoop):
    """mmengine's loop over epochs, whose first epoch may start at any batch."""

    _first_batch = 0
    _epoch_start = (0, 0)  # epoch, and the iteration at which it started

    def position(self, epoch: int, iteration: int) -> tuple[int, int]:
        """Return the epoch and the number of its finished batches, for counters that are saved."""
        return epoch, iteration - self._epoch_start[1] if epoch == self._epoch_start[0] else 0

    def seek(self, epoch: int, batch: int) -> None:
        """Let the run start at a batch of an epoch."""
        self._epoch, self._first_batch = epoch, batch

    def run_epoch(self) -> None:
        """Train for an epoch, or the rest of it."""
        first, self._first_batch = self._first_batch, 0
        self._epoch_start = (self._epoch, self._iter - first)
        if first == 0:
            self._restore_rng_state()
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        for index, batch in enumerate(self._iterate_from(self._epoch, first), first):
            self.run_iter(index, batch)
        self._restore_rng_state()  # if the run was stopped after the last batch
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Train for one iteration."""
        self._restore_rng_state()
        super().run_iter(idx, data_batch)

    def is_validation_due(self) -> bool:
        """Whether a validation follows the epochs that are finished."""
        self._decide_current_val_interval()
        return self._iter > 0 and self._first_batch == 0 and _is_due(self, self._epoch, self._max_epochs)


class ExactIterLoop(ExactLoop, IterBasedTrainLoop):
    """mmengine's loop over iterations, which skips indices of its sampler instead of reading the data again."""

    def position(self, epoch: int, iteration: int) -> tuple[int, int]:
        """Return the epoch of the data and the number of its finished batches."""
        return self.dataloader_iterator.position

    def seek(self, epoch: int, batch: int) -> None:
        """Let the run start at a batch of an epoch of the data."""
        self.dataloader_iterator.position = (epoch, batch)

    def run(self) -> nn.Module:
        """Train."""
        position = (0, self._iter) if is_infinite(self.dataloader) else divmod(self._iter, len(self.dataloader))
        # The fork's loop, which has this option, skips all batches at once or none; mmengine's requests each of them.
        skipped = 0 if hasattr(self, 'fast_forward_on_resume') else self._iter
        self.dataloader_iterator = _InfiniteIterator(self, position, skipped)
        return super().run()

    def run_iter(self, data_batch: Any) -> None:
        """Train for one iteration."""
        self._restore_rng_state()
        super().run_iter(data_batch)

    def is_validation_due(self) -> bool:
        """Whether a validation follows the iterations that are finished."""
        self._decide_current_val_interval()
        return self._iter > 0 and _is_due(self, self._iter, self._max_iters)


EXACT_LOOPS = {EpochBasedTrainLoop: ExactEpochLoop, IterBasedTrainLoop: ExactIterLoop}


def to_exact_loop(loop: BaseLoop | dict[str, Any]) -> BaseLoop | dict[str, Any]:
    """Return the config of a train loop with mmengine's own classes replaced by those above.

    Args:
        loop: Config of the loop as mmengine's Runner takes it; a loop that is already built is returned unchanged.
    """
    if not isinstance(loop, dict) or ('type' in loop) == ('by_epoch' in loop):
        return loop
    by_epoch = EpochBasedTrainLoop if loop.get('by_epoch') else IterBasedTrainLoop
    kind = EXACT_LOOPS.get(class_of(LOOPS, loop) if 'type' in loop else by_epoch)
    if kind is None:
        return loop
    return {'type': kind} | {key: value for key, value in loop.items() if key not in ('type', 'by_epoch')}


class _InfiniteIterator:
    """Infinite iterator over the batches of a loop, like mmengine's ``_InfiniteDataloaderIterator``.

    Args:
        loop: The loop.
        position: Epoch to start with, and number of its finished batches; may be changed before the first batch.
        skipped: Number of items that mmengine requests before these and drops; they are None.
    """

    def __init__(self, loop: ExactIterLoop, position: tuple[int, int], skipped: int) -> None:
        self.loop, self.position, self.skipped = loop, position, skipped
        self.iterator: Iterator[Any] | None = None

    def _start_epoch(self) -> Iterator[Any]:
        epoch, batch = self.position
        loader = self.loop.dataloader
        for sampler in (loader.sampler, getattr(loader.batch_sampler, 'sampler', None)):
            if hasattr(sampler, 'set_epoch'):
                sampler.set_epoch(epoch)
                break
        return self.loop._iterate_from(epoch, batch)

    def __iter__(self) -> Iterator[Any]:
        return self

    def skip_iter(self, count: int) -> None:
        """Do nothing: the loop of mmengine's fork calls this to skip batches, which ``position`` does here."""

    def __next__(self) -> Any:
        if self.skipped:
            self.skipped -= 1
            return None
        if self.iterator is None:
            self.iterator = self._start_epoch()
        item = next(self.iterator, None)
        if item is None:
            self.position = (self.position[0] + 1, 0)
            self.loop._restore_rng_state()  # if the run was stopped after the last batch of an epoch
            self.iterator = self._start_epoch()
            item = next(self.iterator)
        self.position = (self.position[0], self.position[1] + 1)
        return item


def _is_due(loop: BaseLoop, count: int, maximum: int) -> bool:
    """Whether mmengine validates after ``count`` of ``maximum`` epochs or iterations."""
    if loop.runner.val_loop is None or count < loop.val_begin:
        return False
    return count % loop.val_interval == 0 or count == maximum
