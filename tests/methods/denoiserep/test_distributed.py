"""Two gloo processes against one (check 16)."""

import pytest
import torch

from reprefine.methods.denoiserep import collect_moments, fit_closed_form
from tests.helpers.forked import run_ranks

from . import workers
from .toys import assert_same, images


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp('gloo')
    run_ranks(workers.work, str(folder))
    return [torch.load(folder / f'rank{rank}.pth', weights_only=True) for rank in range(2)]


@pytest.mark.parametrize('name', ['sgd', 'adamw'])
def test_two_processes_train_as_one_over_four_phase_changes(ranks, name):
    """Parameters are equal on both ranks, and equal to one process that sees the joint batch and both noises."""
    first, second = (rank[name] for rank in ranks)
    assert_same(first['state'], second['state'])
    expected = workers.one_process(name)
    start = workers.wrapped().state_dict()
    for key, value in expected.items():
        torch.testing.assert_close(first['state'][key], value, rtol=1e-8, atol=1e-10, msg=lambda m, k=key: f'{k}: {m}')
        if value.is_floating_point() and 'running' not in key:
            assert not torch.equal(value, start[key]), key
    for phase, log in zip(workers.PHASES, first['logs'], strict=True):
        assert ('loss_denoise' in log) == (phase != 'backbone')
        assert 'loss_cls' in log


def test_two_processes_under_autocast_stay_finite_and_equal(ranks):
    first, second = (rank['bf16'] for rank in ranks)
    assert_same(first['state'], second['state'])
    assert all(value.isfinite().all() for value in first['state'].values())
    assert all(value.isfinite() for log in first['logs'] for value in log.values())


def test_reduced_moments_and_fit_are_those_of_one_process(ranks):
    """With 5 and 3 images."""
    first, second = (rank['fit'] for rank in ranks)
    model = workers.wrapped().eval()
    with collect_moments(model) as moments, torch.no_grad():
        model(images(8).double())
    losses = fit_closed_form(model, moments)
    for name, m in moments.items():
        for found, expected in zip(first['sums'][name], (m.count, m.mean, m.second_moment), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        assert first['losses'][name] == pytest.approx(losses[name], rel=1e-9)
    assert_same(first['state'], second['state'])
    for key, value in model.state_dict().items():
        torch.testing.assert_close(first['state'][key], value, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize('case', workers.TWO_CASES)
def test_real_models_stay_equal_on_both_ranks_over_two_phase_changes(ranks, case):
    """Each rank has batches of its own, and each phase leaves one half of the parameters unused."""
    first, second = (rank[case] for rank in ranks)
    assert_same(first['parameters'], second['parameters'])
    assert not torch.equal(first['losses'], second['losses'])
    assert torch.cat([first['losses'], second['losses']]).isfinite().all()
    moved = {name for name, value in first['parameters'].items() if not torch.equal(value, first['start'][name])}
    predictors = {name for name in first['start'] if '.denoiser.' in name}
    assert predictors <= moved
    assert len(moved - predictors) > len(predictors)
