import numpy as np
import pytest

from reprefine.tasks.face_parsing.prepare.split import SIZES, split_by_origin, split_randomly, warn_if_sizes_differ


def test_rule_of_the_authors():
    origins = {5: 162_771, 1: 0, 2: 162_770, 4: 182_637, 9: 182_638, 7: 202_598}
    assert split_by_origin(origins) == {'train': [1, 2], 'val': [4, 5], 'test': [7, 9]}
    random = dict(enumerate(np.random.default_rng(0).integers(0, 202_599, 500).tolist()))
    splits = split_by_origin(random)
    assert splits['train'] == [face for face, origin in random.items() if origin < 162_771]
    assert splits['val'] == [face for face, origin in random.items() if 162_771 <= origin < 182_638]
    assert splits['test'] == [face for face, origin in random.items() if origin >= 182_638]


def test_random_split_has_the_published_sizes_and_repeats():
    splits = split_randomly(range(30_000), seed=0)
    assert {name: len(ids) for name, ids in splits.items()} == SIZES
    assert sorted(sum(splits.values(), [])) == list(range(30_000))
    assert all(ids == sorted(ids) for ids in splits.values())
    assert split_randomly(range(29_999, -1, -1), seed=0) == splits
    other = split_randomly(range(30_000), seed=1)['test']
    # Two independent draws of n faces out of 30,000 share n * n / 30,000 of them, with a deviation of about 15.
    assert len(set(splits['test']) & set(other)) == pytest.approx(2_824**2 / 30_000, abs=75)


def test_random_split_of_a_few():
    splits = split_randomly(range(100, 140), seed=3)
    assert [len(ids) for ids in splits.values()] == [32, 4, 4]
    assert sorted(sum(splits.values(), [])) == list(range(100, 140))


def test_other_sizes_are_warned_of(recwarn):
    warn_if_sizes_differ(split_randomly(range(30_000), seed=0))
    assert not recwarn
    with pytest.warns(UserWarning, match="'train': 24182, 'val': 2994"):
        warn_if_sizes_differ({'train': [0] * 24_182, 'val': [0] * 2_994, 'test': [0] * 2_824})
