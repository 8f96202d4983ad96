"""Two gloo processes: draws of their own, one queue."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from reprefine.methods.feature_transform import read_run
from reprefine.tasks.classification.functional import nearest_neighbors
from reprefine.tasks.classification.hooks import extract_features
from tests.helpers.forked import run_ranks

from . import workers
from .toys import loader, moco_ft


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('gloo')
    run_ranks(workers.work, str(path))
    return path


@pytest.fixture(scope='module')
def ranks(folder):
    return [torch.load(folder / f'rank{rank}.pth', weights_only=True) for rank in range(2)]


def test_queue_and_pointer_are_equal_before_and_after_every_step(ranks):
    """A queue of 22 under a joint batch of 8: it wraps around in the third step."""
    first, second = (rank['train']['seen'] for rank in ranks)
    assert [int(step['pointer']) for step in first] == [0, 8, 16, 2]
    for actual, reference in zip(first, second, strict=True):
        assert torch.equal(actual['queue'], reference['queue'])
        assert torch.equal(actual['pointer'], reference['pointer'])
        assert_close(actual['queue'].norm(dim=0), torch.ones(22), rtol=0, atol=1e-5)
    for before, after in zip(first, first[1:], strict=False):
        places = (int(before['pointer']) + torch.arange(8)) % 22
        moved = (before['queue'] != after['queue']).any(dim=0)
        assert moved.nonzero()[:, 0].tolist() == places.sort().values.tolist()


def test_every_rank_draws_its_own(ranks):
    first, second = (torch.stack(rank['train']['draws']) for rank in ranks)
    assert len(first) == 3
    assert (first[:, :2] != second[:, :2]).all()
    assert (first[:, 2] != second[:, 2]).any()


def test_parameters_and_key_encoder_stay_equal(ranks):
    first, second = (rank['train']['state'] for rank in ranks)
    for key, value in first.items():
        if 'running_' not in key:  # each rank normalises its own share
            assert torch.equal(value, second[key]), key


def test_reduced_statistics_are_the_mean_over_the_ranks(ranks, folder):
    means = np.mean([rank['train']['pos_mean'] for rank in ranks], axis=0)
    run = read_run(folder / 'run')
    np.testing.assert_allclose(run.values['pos_mean'], means, rtol=1e-6)
    assert run.meta['world_size'] == 2
    assert run.meta['reduce'] is True


def test_neighbours_found_by_two_processes_are_those_of_one(ranks):
    """With 9 and 7 images, which do not divide by two, and more neighbours than one process has images."""
    model = moco_ft().eval()
    (bank, labels), (query, truth) = (extract_features(model, loader(count, two_views=False)) for count in (9, 7))
    for k in (3, 8):
        expected = nearest_neighbors(query, bank, labels, k)
        for rank in ranks:
            similarity, classes = rank['neighbors'][k]
            assert_close(similarity, expected.similarity)
            assert torch.equal(classes, expected.labels)
            assert torch.equal(rank['truth'], truth)
    assert ranks[0]['train']['knn'] == ranks[1]['train']['knn']


def test_a_loader_that_gives_every_process_all_images_is_refused(ranks):
    for rank in ranks:
        assert 'each of 2 processes loads 9 of 9 images: set sampler=' in rank['refusal']


def test_without_a_runner_the_queues_are_shared_at_the_first_step(ranks):
    first, second = (rank['bare'] for rank in ranks)
    assert not torch.equal(first['before'], second['before'])
    assert torch.equal(first['after'], second['after'])
    assert torch.equal(first['after'][:, 8:], first['before'][:, 8:])
    assert int(first['pointer']) == int(second['pointer']) == 8


def test_two_processes_take_the_step_that_one_takes_on_all_pairs(ranks):
    """Without a transform, which every process draws for itself, and norms that do not depend on the batch."""
    first, second = (rank['step'] for rank in ranks)
    assert first['loss'] != second['loss']
    model = moco_ft(feature_transform=None)
    start = {key: value.clone() for key, value in model.state_dict().items()}
    alone = workers.one_step(model, slice(None))
    assert_close((first['loss'] + second['loss']) / 2, alone['loss'])
    for key, value in alone['state'].items():
        assert torch.equal(first['state'][key], second['state'][key]), key
        assert_close(first['state'][key], value, msg=lambda message, key=key: f'{key}: {message}')
    for key in ('backbone.conv1.weight', 'queue'):
        assert not torch.equal(alone['state'][key], start[key])
