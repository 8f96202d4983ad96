import copy

import numpy as np
import pytest
from mmengine.dataset import BaseDataset, DefaultSampler
from mmengine.hooks import DistSamplerSeedHook
from mmengine.runner import Runner

from reprefine.engine.errors import UserError
from reprefine.tasks.reid import PKSampler
from reprefine.tasks.reid.samplers import draw_batches, draw_groups

# Images of each identity: fewer than K, K, and more.
COUNTS = (2, 4, 5, 9, 13, 8, 4, 1)
LABELS = np.random.default_rng(7).permutation(np.repeat(np.arange(len(COUNTS)), COUNTS))


class Labelled(BaseDataset):
    def __init__(self, labels):
        self.labels = labels
        super().__init__(serialize_data=False)

    def load_data_list(self):
        return [dict(gt_label=int(label)) for label in self.labels]


def make_sampler(batch_size=12, num_instances=4, rank=0, world_size=1, epoch=0, seed=3, labels=LABELS):
    sampler = DefaultSampler(Labelled(labels), seed=seed)
    sampler.rank, sampler.world_size = rank, world_size
    sampler.set_epoch(epoch)
    return PKSampler(sampler, batch_size, num_instances)


@pytest.mark.parametrize('k', [1, 3, 4])
def test_groups_split_every_identity(k):
    groups = draw_groups(LABELS, k, np.random.default_rng(0))
    for identity, count in enumerate(COUNTS):
        images = np.concatenate(groups[identity])
        assert (LABELS[images] == identity).all()
        assert len(images) == max(count // k, 1) * k
        if count >= k:
            assert len(np.unique(images)) == len(images)


def test_groups_are_shuffled():
    firsts = [draw_groups(LABELS, 4, np.random.default_rng(seed))[4][0][0] for seed in range(2000)]
    frequencies = np.bincount(firsts, minlength=len(LABELS))[LABELS == 4] / 2000
    assert np.abs(frequencies - 1 / 13).max() < 0.03


@pytest.mark.parametrize(('p', 'k'), [(3, 4), (2, 2), (8, 4), (1, 5)])
def test_batches_are_p_identities_of_k_images(p, k):
    batches = draw_batches(LABELS, p, k, np.random.default_rng(0))
    assert batches.shape[1:] == (p, k)
    identities = LABELS[batches]
    assert (identities == identities[..., :1]).all()
    assert all(len(set(batch)) == p for batch in identities[..., 0].tolist())
    # Drawing has stopped only when fewer than P identities had a group left.
    left = np.maximum(np.array(COUNTS) // k, 1) - np.bincount(identities[..., 0].ravel(), minlength=len(COUNTS))
    assert left.min() >= 0
    assert (left > 0).sum() < p
    images, uses = np.unique(batches, return_counts=True)
    assert (uses[np.array(COUNTS)[LABELS[images]] >= k] == 1).all()


def test_identities_are_drawn_evenly():
    first = [LABELS[draw_batches(LABELS, 3, 4, np.random.default_rng(seed))[0, :, 0]] for seed in range(1500)]
    assert np.abs(np.bincount(np.ravel(first)) / 1500 - 3 / 8).max() < 0.04


def test_sampler_is_a_function_of_seed_and_epoch():
    assert list(make_sampler(epoch=2)) == list(make_sampler(epoch=2))
    assert list(make_sampler(epoch=2)) != list(make_sampler(epoch=3))
    assert list(make_sampler(epoch=2)) != list(make_sampler(epoch=2, seed=4))
    rng = np.random.default_rng([3, 2])
    assert list(make_sampler(epoch=2)) == draw_batches(LABELS, 3, 4, rng).reshape(-1, 12).tolist()


def test_length_is_that_of_the_current_epoch():
    sampler = make_sampler(batch_size=8, num_instances=2)
    lengths = []
    for epoch in range(20):
        sampler.sampler.set_epoch(epoch)
        lengths.append(len(sampler))
        assert len(list(sampler)) == len(sampler)
    assert len(set(lengths)) > 1


def test_two_processes_share_the_batches_of_one():
    first, second = (list(make_sampler(batch_size=8, rank=rank, world_size=2, epoch=5)) for rank in range(2))
    whole = list(make_sampler(batch_size=16, epoch=5))
    assert [a + b for a, b in zip(first, second, strict=True)] == whole
    assert all(not set(LABELS[a]) & set(LABELS[b]) for a, b in zip(first, second, strict=True))


def test_a_data_loader_yields_the_batches_of_each_epoch():
    cfg = dict(
        dataset=Labelled(LABELS),
        batch_size=12,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=True),
        batch_sampler=dict(type='reprefine.PKSampler', num_instances=4),
        collate_fn=lambda samples: [sample['sample_idx'] for sample in samples],
    )
    loader = Runner.build_dataloader(copy.copy(cfg), seed=3)
    runner = type('Stub', (), dict(train_loop=type('Loop', (), dict(dataloader=loader)), epoch=4))
    DistSamplerSeedHook().before_train_epoch(runner)
    assert list(loader) == list(make_sampler(epoch=4))
    assert len(loader) == len(list(loader))
    assert loader.batch_sampler.batch_size == 12  # which --auto-scale-lr reads


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(batch_size=10), 'batch_size 10 is not a multiple of num_instances 4'),
        (dict(batch_size=36), 'has 9 identities of 4 images, but the dataset has 8'),
        (dict(batch_size=20, world_size=2), 'has 10 identities of 4 images, but the dataset has 8'),
        (dict(batch_size=28, num_instances=14), 'no identity has num_instances=14 images, the maximum is 13'),
    ],
)
def test_batches_larger_than_the_dataset_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        make_sampler(**arguments)
