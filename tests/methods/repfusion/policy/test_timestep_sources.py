"""Fixed and random rules that select timesteps."""

import pytest
import torch
from scipy import stats

from reprefine.engine.errors import UserError
from reprefine.methods.repfusion import (
    FixedTimesteps,
    IntervalTimesteps,
    UniformTimesteps,
    ZeroTimesteps,
)

IMAGES = torch.zeros(500, 3, 4, 4)


def bind(source, steps=1000, layers=1):
    source.bind(steps, layers)
    return source


def test_uniform_timesteps_are_uniform_below_their_limit():
    t = bind(UniformTimesteps(50)).select(IMAGES.repeat(10, 1, 1, 1), None)
    assert t.dtype == torch.int64
    assert stats.chisquare(torch.bincount(t, minlength=50).numpy()).pvalue > 0.001
    assert len(torch.bincount(t)) == 50
    assert bind(UniformTimesteps()).select(IMAGES, None).max() > 900


def test_uniform_timesteps_resume_from_the_counter():
    first, second = bind(UniformTimesteps(seed=2)), bind(UniformTimesteps(seed=2))
    series = [first.select(IMAGES, None) for _ in range(4)]
    second.rng.count = 2
    assert torch.equal(second.select(IMAGES, None), series[2])
    assert not torch.equal(series[0], series[1])


def test_fixed_and_zero_timesteps():
    assert set(bind(FixedTimesteps(7)).select(IMAGES, None).tolist()) == {7}
    assert set(bind(ZeroTimesteps()).select(IMAGES, None).tolist()) == {0}


def test_interval_timesteps_are_those_of_the_pair():
    source, pairs = bind(IntervalTimesteps([900, 400, 100]), layers=3), set()
    for _ in range(60):
        t = source.select(IMAGES, None)
        low, high = [(400, 900), (100, 400), (0, 100)][source.pair]
        assert low <= t.min()
        assert t.max() < high
        pairs.add(source.pair)
    assert pairs == {0, 1, 2}


@pytest.mark.parametrize(
    ('make', 'layers', 'message'),
    [
        (lambda: FixedTimesteps(1000), 1, r'timestep 1000 is outside 0..999'),
        (lambda: FixedTimesteps(-1), 1, r'timestep -1 is outside'),
        (lambda: UniformTimesteps(1001), 1, r'max_timestep=1001 is outside 1..1000'),
        (lambda: UniformTimesteps(0), 1, r'max_timestep=0 is outside'),
        (lambda: IntervalTimesteps([100, 400]), 2, 'must decrease'),
        (lambda: IntervalTimesteps([1001, 400]), 2, 'timestep 1000 is outside'),
        (lambda: IntervalTimesteps([400, 100]), 1, '2 bounds for 1 layers'),
    ],
)
def test_timesteps_outside_the_schedule_are_refused(make, layers, message):
    with pytest.raises(UserError, match=message):
        bind(make(), layers=layers)
