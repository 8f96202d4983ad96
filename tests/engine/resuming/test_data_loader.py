"""A loader that starts at any batch returns the rest of the epoch's batches, with any number of workers."""

import inspect

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset

from reprefine.engine.resuming import data_loader
from reprefine.engine.resuming.data_loader import SeededFetch, SeekableDataLoader, is_infinite, make_seekable


class RandomItems(Dataset):
    """Items of their index and a random number of NumPy and of torch."""

    def __init__(self):
        self.read = []

    def __len__(self):
        return 23

    def __getitem__(self, index):
        self.read.append(index)
        return torch.tensor([index, np.random.rand(), torch.rand(())], dtype=torch.float64)


def make(seed=7, sampler=DefaultSampler, workers=0, persistent=False):
    dataset = RandomItems()
    loader = DataLoader(dataset, 4, sampler=sampler(dataset, shuffle=True, seed=1), num_workers=workers)
    if persistent:
        loader = DataLoader(dataset, 4, sampler=loader.sampler, num_workers=workers, persistent_workers=True)
    return make_seekable(loader, seed)


def epochs(loader, count=3):
    result = []
    for epoch in range(count):
        loader.sampler.set_epoch(epoch)
        loader.seek(epoch)
        result.append(list(loader))
    return result


def same(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(('workers', 'persistent'), [(1, False), (2, True)])
def test_workers_make_no_difference(workers, persistent):
    for expected, found in zip(epochs(make()), epochs(make(workers=workers, persistent=persistent)), strict=True):
        assert same(found, expected)


def test_ranks_draw_different_numbers(monkeypatch):
    numbers = []
    for rank in range(2):
        monkeypatch.setattr(data_loader, 'get_rank', lambda rank=rank: rank)
        numbers.append(torch.cat(list(make())))
    assert torch.equal(numbers[0][:, 0], numbers[1][:, 0])
    assert not (numbers[0][:, 1:] == numbers[1][:, 1:]).any()


def test_every_sample_of_every_epoch_draws_a_different_number():
    numbers = torch.cat([batch for epoch in epochs(make()) for batch in epoch])
    assert len(numbers[:, 1].unique()) == len(numbers[:, 2].unique()) == 3 * 23
    again = torch.cat([batch for epoch in epochs(make(seed=8)) for batch in epoch])
    assert torch.equal(numbers[:, 0], again[:, 0])
    assert not (numbers[:, 1:] == again[:, 1:]).any()


@pytest.mark.parametrize('first', [0, 1, 5, 6])
def test_after_seek_it_reads_only_from_that_batch_on(first):
    expected = epochs(make(), 2)[1]
    loader = make()
    loader.sampler.set_epoch(1)
    loader.seek(1, first)
    assert len(loader) == 6
    assert same(list(loader), expected[first:])
    assert len(loader.dataset.read) == max(23 - 4 * first, 0)
    assert same(list(loader), expected)  # the next iterator starts at batch 0


def test_seek_skips_indices_of_an_infinite_sampler():
    def take(loader, count):
        iterator = iter(loader)
        return [next(iterator) for _ in range(count)]

    assert is_infinite(make(sampler=InfiniteSampler))
    assert not is_infinite(make())
    expected = take(make(sampler=InfiniteSampler), 20)
    loader = make(sampler=InfiniteSampler)
    loader.seek(0, 13)
    assert same(take(loader, 7), expected[13:])
    assert len(loader.dataset.read) == 7 * 4


def test_reading_a_batch_does_not_change_the_rng_state_of_the_process():
    torch.manual_seed(0)
    loader = make()
    iterator = iter(loader)
    next(iterator)  # the first batch draws from the global RNG, as in torch
    state = torch.get_rng_state()
    next(iterator)
    assert torch.equal(torch.get_rng_state(), state)


def test_getitems_of_a_dataset_is_still_used():
    class Batches(RandomItems):
        def __getitems__(self, indices):
            return [self[index] * 2 for index in indices]

    plain, own = RandomItems(), Batches()
    loaders = [make_seekable(DataLoader(dataset, 4), 3) for dataset in (plain, own)]
    for one, two in zip(*loaders, strict=True):
        assert torch.equal(2 * one, two)
    assert isinstance(own.__getitems__, SeededFetch)
    assert own.__getitems__.own is not own.__getitems__
    make_seekable(DataLoader(own, 4), 3)
    assert not isinstance(own.__getitems__.own, SeededFetch)  # not wrapped twice


def test_all_other_arguments_of_a_loader_are_kept():
    dataset, generator = RandomItems(), torch.Generator()
    common = dict(num_workers=2, collate_fn=list, timeout=3, prefetch_factor=5, persistent_workers=True)
    common |= dict(pin_memory=True, worker_init_fn=print, in_order=False)
    common |= dict(multiprocessing_context='spawn', generator=generator)
    sampler = DefaultSampler(dataset, seed=1)
    batches = BatchSampler(sampler, 3, drop_last=True)
    for own in (dict(batch_size=4, sampler=sampler, drop_last=True), dict(batch_sampler=batches), dict(shuffle=True)):
        loader = DataLoader(dataset, **own, **common)
        made = make_seekable(loader, 1)
        assert type(loader) is DataLoader
        assert type(made) is SeekableDataLoader
        names = set(inspect.signature(DataLoader).parameters) - {'shuffle', 'sampler', 'batch_sampler'}
        for name in names:
            assert getattr(made, name) == getattr(loader, name), name
        if 'batch_sampler' in own:
            assert made.batch_sampler is batches
        else:
            assert made.sampler is loader.sampler
            assert type(made.batch_sampler) is type(loader.batch_sampler)
        assert len(made) == len(loader)


def test_a_loader_of_another_class_is_not_changed():
    class Own(DataLoader):
        pass

    loader = Own(RandomItems(), 4)
    assert make_seekable(loader, 1) is loader
    assert isinstance(loader.dataset.__getitems__, SeededFetch)


def test_loaders_without_indices_or_seed_are_not_changed():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(range(3))

    for loader, seed in (
        (DataLoader(Stream(), 2), 1),
        (DataLoader(RandomItems(), None), 1),
        (DataLoader(RandomItems(), 2), None),
    ):
        assert not isinstance(make_seekable(loader, seed), SeekableDataLoader)
    loader = make_seekable(DataLoader([1, 2, 3, 4], 2), 1)  # a list takes no attributes
    loader.seek(0, 1)
    assert [batch.tolist() for batch in loader] == [[3, 4]]
