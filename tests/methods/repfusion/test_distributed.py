"""Two gloo processes: equal policies, different timesteps, and resuming."""

import pytest
import torch
from torch.testing import assert_close

from tests.helpers.forked import run_ranks
from tests.helpers.run import assert_equal

from . import workers
from .run import uniform_batches


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp('gloo')
    run_ranks(workers.work, str(folder))
    return [torch.load(folder / f'rank{rank}.pth', weights_only=True) for rank in range(2)]


def test_policy_and_head_are_trained_and_equal_on_all_ranks(ranks):
    first, second = (rank['uninterrupted'] for rank in ranks)
    assert_equal(first['nets'], second['nets'])
    assert_equal(first['baseline'], second['baseline'])
    assert not torch.equal(first['nets'][0], first['nets'][-1])


def test_ranks_select_different_timesteps_and_the_histogram_counts_all(ranks):
    first, second = (torch.cat(rank['uninterrupted']['t']) for rank in ranks)
    assert not torch.equal(first, second)
    counts = ranks[0]['uninterrupted']['counts']
    assert counts.sum() == 2 * 12 * 3
    assert torch.equal(counts.long(), torch.bincount(torch.cat([first, second]), minlength=1000))
    assert torch.equal(counts, ranks[1]['uninterrupted']['counts'])


def test_uniform_batches_are_the_same_on_all_ranks_with_different_timesteps(ranks):
    first, second = (rank['uniform'] for rank in ranks)
    assert first['is_uniform'] == second['is_uniform'] == uniform_batches(0.5, 6)
    assert set(first['is_uniform']) == {True, False}
    assert_equal(first['nets'], second['nets'])
    assert_equal(first['baseline'], second['baseline'])
    for t, other, is_uniform in zip(first['t'], second['t'], first['is_uniform'], strict=True):
        assert not is_uniform or not torch.equal(t, other)


def test_resumed_run_equals_the_uninterrupted_one_on_every_rank(ranks):
    for rank in ranks:
        assert_equal(rank['resumed']['t'], rank['uninterrupted']['t'][6:])
        assert_equal(rank['resumed']['nets'], rank['uninterrupted']['nets'][6:])
        assert_equal(rank['resumed']['counts'], rank['uninterrupted']['counts'])


def test_step_of_two_processes_equals_that_of_one_on_all_images(ranks):
    """With the same timesteps, and norms that do not depend on the batch."""
    first, second = (rank['step'] for rank in ranks)
    assert first['loss'] != second['loss']
    assert_equal(first['weights'], second['weights'])
    model = workers.distiller()
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    alone = workers.one_step(model, slice(None))
    assert_close(alone['weights'], first['weights'])
    assert_close((first['loss'] + second['loss']) / 2, alone['loss'])
    assert not torch.equal(alone['weights']['student.backbone.conv1.weight'], start['student.backbone.conv1.weight'])
