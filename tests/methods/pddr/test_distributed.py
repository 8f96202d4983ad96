"""Two gloo processes against one."""

import pytest
import torch

from tests.helpers.forked import run_ranks

from . import workers


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp('gloo')
    run_ranks(workers.work, str(folder))
    return [torch.load(folder / f'rank{rank}.pth', weights_only=True) for rank in range(2)]


@pytest.mark.parametrize(('mode', 'compute'), workers.JOBS)
def test_two_processes_train_as_one_that_averages_gradients(ranks, mode, compute):
    first, second = (rank[f'{mode}-{compute}'] for rank in ranks)
    expected = workers.one_process(mode, compute)
    start = workers.network(mode, compute).state_dict()
    for key, value in expected.items():
        torch.testing.assert_close(first[key], value, rtol=1e-9, atol=1e-11, msg=lambda m, k=key: f'{k}: {m}')
        if 'running' not in key:  # each rank keeps the statistics of its own half
            assert torch.equal(first[key], second[key]), key
    moved = [key for key in expected if not torch.equal(expected[key], start[key])]
    assert {key for key in expected if key.endswith('weight')} <= set(moved)


@pytest.mark.parametrize(('mode', 'compute'), workers.JOBS)
def test_the_trained_model_of_a_rank_is_reparameterised_exactly(ranks, mode, compute):
    for rank in ranks:
        job = rank[f'{mode}-{compute}']
        torch.testing.assert_close(job['after'], job['before'], rtol=1e-10, atol=1e-10)
