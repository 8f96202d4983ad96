"""A data loader that can start at any batch, and whose random numbers depend only on seed, rank, epoch and batch."""

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
    """``__getitems__`` of a dataset whose samples draw from the seed of their batch.

    The samples are the same in the main process and in any worker, whatever was read before.

    Args:
        dataset: The dataset.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.own = getattr(dataset, '__getitems__', None)

    def __call__(self, batch: list[int]) -> list[Any]:
        """Return the samples of a batch."""
        if not isinstance(batch, SeededBatch):
            return self._read(batch)
        if get_worker_info() is not None:  # the RNG of a worker has no other use
            seed_cpu(batch.seed)
            return self._read(batch)
        with seeded_cpu(batch.seed):
            return self._read(batch)

    def _read(self, batch: list[int]) -> list[Any]:
        return self.own(batch) if self.own else [self.dataset[index] for index in batch]


@dataclass
class LoaderPosition:
    """Where the next iterator over a loader starts.

    Attributes:
        epoch: Epoch, on which the random numbers depend.
        batch: Index of the batch.
        seed: Seed of the run and the rank.
    """

    epoch: int = 0
    batch: int = 0
    seed: int = 0


class _SeededBatches:
    """The batches of a sampler from a position on.

    It holds no reference to the loader: an iterator with one would keep its workers until garbage collection.
    """

    def __init__(self, batches: Sampler[list[int]], position: LoaderPosition) -> None:
        self.batches, self.position = batches, position

    def __iter__(self) -> Iterator[SeededBatch]:
        position = self.position
        epoch, first, position.batch = position.epoch, position.batch, 0
        # The sampler skips the indices of earlier batches; their samples are not read.
        for number, indices in enumerate(islice(self.batches, first, None), first):
            batch = SeededBatch(indices)
            batch.seed = mix_seeds(position.seed, epoch, number)
            yield batch

    def __len__(self) -> int:
        return len(self.batches)


class SeekableDataLoader(DataLoader):
    """A loader whose next iterator can start at any batch of any epoch.

    Attributes:
        position: Where the next iterator starts.
    """

    position: LoaderPosition

    def seek(self, epoch: int, batch: int = 0) -> None:
        """Let the next iterator start at a batch of an epoch; the one after it starts at batch 0."""
        self.position.epoch, self.position.batch = epoch, batch

    @property
    def _index_sampler(self) -> _SeededBatches:
        return _SeededBatches(self.batch_sampler, self.position)

    def __iter__(self) -> Iterator[Any]:
        # A generator, which starts at the first batch that is requested: mmengine's loop over iterations creates its
        # iterator before the position to resume from is known.
        yield from super().__iter__()


def make_seekable(loader: DataLoader, seed: int | None) -> DataLoader:
    """Return a :class:`SeekableDataLoader` over the same batches.

    Loaders without batches or indices, and those of a class other than torch's, are returned unchanged.

    Args:
        loader: The loader, not iterated over yet.
        seed: Seed of the run. None: the samples draw from the global RNG state.
    """
    if seed is None or loader.batch_sampler is None or isinstance(loader.dataset, IterableDataset):
        return loader
    if type(loader) is DataLoader:
        loader = SeekableDataLoader(**_arguments(loader))
        loader.position = LoaderPosition(seed=mix_seeds(seed, get_rank()))
    if not isinstance(getattr(loader.dataset, '__getitems__', None), SeededFetch):
        with suppress(AttributeError):  # a list takes no attributes, and draws nothing
            loader.dataset.__getitems__ = SeededFetch(loader.dataset)
    return loader


def _arguments(loader: DataLoader) -> dict[str, Any]:
    """Return the constructor arguments of a loader, which it keeps as attributes of the same names."""
    # torch's DataLoader builds its batch sampler from the sampler, batch_size and drop_last, or takes a batch_sampler.
    replaced = {'sampler', 'batch_size', 'drop_last'} if loader.batch_size is None else {'batch_sampler'}
    names = signature(DataLoader).parameters.keys() - replaced - {'shuffle'}
    return {name: getattr(loader, name) for name in names}


def is_infinite(loader: DataLoader) -> bool:
    """Whether the sampler of a loader is mmengine's ``InfiniteSampler``."""
    sampler = loader.sampler if loader.batch_sampler is None else getattr(loader.batch_sampler, 'sampler', None)
    return isinstance(sampler, InfiniteSampler)


def shutdown_workers(loader: DataLoader) -> None:
    """End the persistent workers of a loader now; garbage collection would close their pipes in an arbitrary order."""
    iterator = getattr(loader, '_iterator', None)
    if hasattr(iterator, '_shutdown_workers'):
        iterator._shutdown_workers()
        loader._iterator = None
