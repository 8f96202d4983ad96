"""Two gloo processes share one policy and choose for themselves."""

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


def test_policy_and_head_stay_equal_and_move(ranks):
    first, second = (rank['whole'] for rank in ranks)
    assert_equal(first['nets'], second['nets'])
    assert_equal(first['baseline'], second['baseline'])
    assert not torch.equal(first['nets'][0], first['nets'][-1])


def test_every_rank_chooses_for_itself_and_all_choices_are_counted(ranks):
    first, second = (torch.cat(rank['whole']['t']) for rank in ranks)
    assert not torch.equal(first, second)
    counts = ranks[0]['whole']['counts']
    assert counts.sum() == 2 * 12 * 3
    assert torch.equal(counts.long(), torch.bincount(torch.cat([first, second]), minlength=1000))
    assert torch.equal(counts, ranks[1]['whole']['counts'])


def test_all_ranks_draw_uniform_timesteps_in_the_same_batches_each_its_own(ranks):
    first, second = (rank['uniform'] for rank in ranks)
    assert first['is_uniform'] == second['is_uniform'] == uniform_batches(0.5, 6)
    assert set(first['is_uniform']) == {True, False}
    assert_equal(first['nets'], second['nets'])
    assert_equal(first['baseline'], second['baseline'])
    for t, other, is_uniform in zip(first['t'], second['t'], first['is_uniform'], strict=True):
        assert not is_uniform or not torch.equal(t, other)


def test_resuming_goes_on_as_every_rank_would_have_gone_on(ranks):
    for rank in ranks:
        assert_equal(rank['resumed']['t'], rank['whole']['t'][6:])
        assert_equal(rank['resumed']['nets'], rank['whole']['nets'][6:])
        assert_equal(rank['resumed']['counts'], rank['whole']['counts'])


def test_two_processes_take_the_step_that_one_takes_on_all_images(ranks):
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
