"""mmengine's training loops, which go on in the middle of an epoch exactly where a run was stopped."""

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
    """What both loops share.

    Attributes:
        awaited: Random state with which the next iteration, or epoch, begins.
        pass_state: Random state with which the running pass over the data began: some samplers draw from it.
    """

    awaited: dict[str, Any] | None = None
    pass_state: dict[str, Any] | None = None

    def _begin_pass(self, epoch: int, batch: int) -> Iterator[Any]:
        """Return an iterator over the data from a batch of a pass on."""
        if batch and self.pass_state is not None:
            set_rng_state(self.pass_state)
        else:
            self.pass_state = get_rng_state()
        if not isinstance(self.dataloader, SeekableDataLoader):
            return islice(self.dataloader, batch, None)  # without indices, there is no way but to read
        self.dataloader.seek(epoch, batch)
        return iter(self.dataloader)

    def _restore_random_state(self) -> None:
        if self.awaited is not None:
            set_rng_state(self.awaited)
            self.awaited = None


class ExactEpochLoop(ExactLoop, EpochBasedTrainLoop):
    """mmengine's loop over epochs, whose first epoch may begin with any batch."""

    _first_batch = 0
    _begun = (0, 0)  # epoch, and the iteration it began with

    def place(self, epoch: int, iteration: int) -> tuple[int, int]:
        """Return the pass over the data and the number of its batches that are done, when these counters are saved."""
        return epoch, iteration - self._begun[1] if epoch == self._begun[0] else 0

    def seek(self, epoch: int, batch: int) -> None:
        """Let the run begin with a batch of an epoch."""
        self._epoch, self._first_batch = epoch, batch

    def run_epoch(self) -> None:
        """Train for an epoch, or the rest of it."""
        first, self._first_batch = self._first_batch, 0
        self._begun = (self._epoch, self._iter - first)
        if first == 0:
            self._restore_random_state()
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        for index, batch in enumerate(self._begin_pass(self._epoch, first), first):
            self.run_iter(index, batch)
        self._restore_random_state()  # a run may have been stopped after the last batch
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Train for one iteration."""
        self._restore_random_state()
        super().run_iter(idx, data_batch)

    def is_validation_due(self) -> bool:
        """Tell whether the epochs done so far are followed by a validation."""
        self._decide_current_val_interval()
        return self._iter > 0 and self._first_batch == 0 and _is_due(self, self._epoch, self._max_epochs)


class ExactIterLoop(ExactLoop, IterBasedTrainLoop):
    """mmengine's loop over iterations, which winds its sampler forward instead of reading the data again."""

    def place(self, epoch: int, iteration: int) -> tuple[int, int]:
        """Return the pass over the data and the number of its batches that are done."""
        return self.dataloader_iterator.place

    def seek(self, epoch: int, batch: int) -> None:
        """Let the run begin with a batch of a pass over the data."""
        self.dataloader_iterator.place = (epoch, batch)

    def run(self) -> nn.Module:
        """Train."""
        place = (0, self._iter) if is_infinite(self.dataloader) else divmod(self._iter, len(self.dataloader))
        # The fork's loop, which has this option, skips at once or not at all instead of asking for each batch.
        skipped = 0 if hasattr(self, 'fast_forward_on_resume') else self._iter
        self.dataloader_iterator = _Batches(self, place, skipped)
        return super().run()

    def run_iter(self, data_batch: Any) -> None:
        """Train for one iteration."""
        self._restore_random_state()
        super().run_iter(data_batch)

    def is_validation_due(self) -> bool:
        """Tell whether the iterations done so far are followed by a validation."""
        self._decide_current_val_interval()
        return self._iter > 0 and _is_due(self, self._iter, self._max_iters)


EXACT = {EpochBasedTrainLoop: ExactEpochLoop, IterBasedTrainLoop: ExactIterLoop}


def exact(loop: BaseLoop | dict[str, Any]) -> BaseLoop | dict[str, Any]:
    """Return the config of a training loop in which mmengine's own loops are replaced by those above.

    Args:
        loop: Config of the loop as mmengine's Runner takes it; a loop that is built already stays as it is.
    """
    if not isinstance(loop, dict) or ('type' in loop) == ('by_epoch' in loop):
        return loop
    by_epoch = EpochBasedTrainLoop if loop.get('by_epoch') else IterBasedTrainLoop
    kind = EXACT.get(class_of(LOOPS, loop) if 'type' in loop else by_epoch)
    if kind is None:
        return loop
    return {'type': kind} | {key: value for key, value in loop.items() if key not in ('type', 'by_epoch')}


class _Batches:
    """Endless iterator over the batches of a loop, from a place on.

    Args:
        loop: The loop.
        place: Pass to begin with, and number of its batches that are done; may be changed before the first batch.
        skipped: Number of items before them that mmengine asks for, to drop them; they are None.
    """

    def __init__(self, loop: ExactIterLoop, place: tuple[int, int], skipped: int) -> None:
        self.loop, self.place, self.skipped = loop, place, skipped
        self.iterator: Iterator[Any] = iter(())
        self.begun = False

    def _begin(self) -> None:
        epoch, batch = self.place
        loader = self.loop.dataloader
        for sampler in (loader.sampler, getattr(loader.batch_sampler, 'sampler', None)):
            if hasattr(sampler, 'set_epoch'):
                sampler.set_epoch(epoch)
                break
        self.iterator, self.begun = self.loop._begin_pass(epoch, batch), True

    def __iter__(self) -> Iterator[Any]:
        return self

    def skip_iter(self, count: int) -> None:
        """Skip what the loop of mmengine's fork would; the place tells where to begin."""

    def __next__(self) -> Any:
        if self.skipped:
            self.skipped -= 1
            return None
        if not self.begun:
            self._begin()
        item = next(self.iterator, None)
        if item is None:
            self.place = (self.place[0] + 1, 0)
            self.loop._restore_random_state()  # a run may have been stopped after the last batch of a pass
            self._begin()
            item = next(self.iterator)
        self.place = (self.place[0], self.place[1] + 1)
        return item


def _is_due(loop: BaseLoop, count: int, maximum: int) -> bool:
    """Tell whether mmengine validates after ``count`` of ``maximum`` epochs or iterations."""
    if loop.runner.val_loop is None or count < loop.val_begin:
        return False
    return count % loop.val_interval == 0 or count == maximum
