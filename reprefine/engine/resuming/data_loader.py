"""A data loader that can begin anywhere in its data, and whose random numbers depend on that place alone."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from inspect import signature
from itertools import islice
from typing import Any

from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_rank
from torch.utils.data import DataLoader, IterableDataset, Sampler, get_worker_info

from .rng_state import mix_seeds, seed_cpu, seeded_cpu


class SeededBatch(list):
    """Indices of a batch, with the ``seed`` of the random numbers that its samples draw."""

    seed: int


class SeededFetch:
    """What a data set reads a batch with: all its samples draw from the seed of the batch.

    Whether a worker reads it, which one, and what was read before then make no difference.

    Args:
        dataset: The data set.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.own = getattr(dataset, '__getitems__', None)

    def __call__(self, batch: list[int]) -> list[Any]:
        """Return the samples of a batch."""
        if not isinstance(batch, SeededBatch):
            return self._read(batch)
        if get_worker_info() is not None:  # a worker draws for nothing else
            seed_cpu(batch.seed)
            return self._read(batch)
        with seeded_cpu(batch.seed):
            return self._read(batch)

    def _read(self, batch: list[int]) -> list[Any]:
        return self.own(batch) if self.own else [self.dataset[index] for index in batch]


@dataclass
class Place:
    """Where the next iterator over a loader begins.

    Attributes:
        epoch: Pass over the data, on which the random numbers depend.
        first: Number of the batch.
        seed: Seed of the run and the rank.
    """

    epoch: int = 0
    first: int = 0
    seed: int = 0


class _SeededBatches:
    """The batches of a sampler from a place on.

    It does not hold the loader: an iterator that does would keep its workers until the garbage collector comes.
    """

    def __init__(self, batches: Sampler[list[int]], place: Place) -> None:
        self.batches, self.place = batches, place

    def __iter__(self) -> Iterator[SeededBatch]:
        place = self.place
        epoch, first, place.first = place.epoch, place.first, 0
        # The sampler passes over the indices before; no sample of theirs is read.
        for number, indices in enumerate(islice(self.batches, first, None), first):
            batch = SeededBatch(indices)
            batch.seed = mix_seeds(place.seed, epoch, number)
            yield batch

    def __len__(self) -> int:
        return len(self.batches)


class SeekableDataLoader(DataLoader):
    """A loader whose next iterator may begin with any batch of any pass.

    Attributes:
        place: Where the next iterator begins.
    """

    place: Place

    def seek(self, epoch: int, first: int = 0) -> None:
        """Let the next iterator begin with batch ``first`` of pass ``epoch``; the one after it begins with batch 0."""
        self.place.epoch, self.place.first = epoch, first

    @property
    def _index_sampler(self) -> _SeededBatches:
        return _SeededBatches(self.batch_sampler, self.place)

    def __iter__(self) -> Iterator[Any]:
        # Started when the first batch is asked for: mmengine's loop over iterations takes an iterator before it is
        # known where the run goes on.
        yield from super().__iter__()


def make_seekable(loader: DataLoader, seed: int | None) -> DataLoader:
    """Return a :class:`SeekableDataLoader` over the same batches; what it cannot be made of is returned as it is.

    That is a loader without batches or indices, and one of another class than torch's.

    Args:
        loader: The loader, not iterated over yet.
        seed: Seed of the run. None: the samples draw from whatever state the process is in.
    """
    if seed is None or loader.batch_sampler is None or isinstance(loader.dataset, IterableDataset):
        return loader
    if type(loader) is DataLoader:
        loader = SeekableDataLoader(**_arguments(loader))
        loader.place = Place(seed=mix_seeds(seed, get_rank()))
    if not isinstance(getattr(loader.dataset, '__getitems__', None), SeededFetch):
        with suppress(AttributeError):  # a list takes no attributes, and draws nothing
            loader.dataset.__getitems__ = SeededFetch(loader.dataset)
    return loader


def _arguments(loader: DataLoader) -> dict[str, Any]:
    """Return the arguments that make a loader, all of which it keeps under their names."""
    # Of batches of its own kind, the class alone makes a sampler; and it shuffles by the sampler.
    given = {'shuffle', *(('sampler', 'batch_size', 'drop_last') if loader.batch_size is None else ('batch_sampler',))}
    return {name: getattr(loader, name) for name in signature(DataLoader).parameters if name not in given}


def is_infinite(loader: DataLoader) -> bool:
    """Tell whether the sampler of a loader never ends."""
    sampler = loader.sampler if loader.batch_sampler is None else getattr(loader.batch_sampler, 'sampler', None)
    return isinstance(sampler, InfiniteSampler)


def shutdown_workers(loader: DataLoader) -> None:
    """End the persistent workers of a loader now, in order; the garbage collector would close their pipes in any."""
    iterator = getattr(loader, '_iterator', None)
    if hasattr(iterator, '_shutdown_workers'):
        iterator._shutdown_workers()
        loader._iterator = None
