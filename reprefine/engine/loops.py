"""Training loops that belong to no method."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from mmengine.dataset import InfiniteSampler
from mmengine.runner import IterBasedTrainLoop
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch import nn

from reprefine.registry import LOOPS

from .errors import UserError


@LOOPS.register_module()
class SeekingIterLoop(IterBasedTrainLoop):
    """mmengine's loop over iterations that, when resumed, winds its sampler forward.

    mmengine reads all batches that were trained on before, only to drop them: hours, where a sample is megabytes of
    features. The batches that follow are the same. Needs an ``InfiniteSampler``, and samples that draw nothing.
    """

    def run(self) -> nn.Module:
        """Train.

        Raises:
            UserError: If the sampler cannot be wound.
        """
        if self._iter:
            self.dataloader_iterator = _Wound(self.dataloader, self._iter)
        return super().run()


class _Wound:
    """Iterator over a data loader whose first ``skipped`` batches are None and cost nothing."""

    def __init__(self, dataloader: Any, skipped: int) -> None:
        sampler = dataloader.sampler
        if not isinstance(sampler, InfiniteSampler):
            name = type(sampler).__name__
            raise UserError(f'SeekingIterLoop: train_dataloader.sampler must be an InfiniteSampler, not a {name}')
        sampler.indices = islice(sampler._indices_of_rank(), skipped * dataloader.batch_size, None)
        self.skipped = skipped
        self.batches = _InfiniteDataloaderIterator(dataloader)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self.skipped:
            self.skipped -= 1
            return None
        return next(self.batches)
