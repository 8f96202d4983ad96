"""Rules that choose timesteps, and the networks that learn to."""

import pytest
import torch
from scipy import stats

from reprefine.engine.errors import UserError
from reprefine.methods.repfusion import (
    AlexNetPolicy,
    FixedTimesteps,
    IntervalTimesteps,
    LeNetPolicy,
    MLPPolicy,
    UniformTimesteps,
    ZeroTimesteps,
)
from reprefine.methods.repfusion.policy.policy_networks import TaskHead

IMAGES = torch.zeros(500, 3, 4, 4)


def bound(source, steps=1000, layers=1):
    source.bind(steps, layers)
    return source


def test_uniform_timesteps_are_uniform_below_their_limit():
    t = bound(UniformTimesteps(50)).select(IMAGES.repeat(10, 1, 1, 1), None)
    assert t.dtype == torch.int64
    assert stats.chisquare(torch.bincount(t, minlength=50).numpy()).pvalue > 0.001
    assert len(torch.bincount(t)) == 50
    assert bound(UniformTimesteps()).select(IMAGES, None).max() > 900


def test_uniform_timesteps_go_on_where_the_count_says():
    first, second = bound(UniformTimesteps(seed=2)), bound(UniformTimesteps(seed=2))
    series = [first.select(IMAGES, None) for _ in range(4)]
    second.rng.count = 2
    assert torch.equal(second.select(IMAGES, None), series[2])
    assert not torch.equal(series[0], series[1])


def test_fixed_and_zero_timesteps():
    assert set(bound(FixedTimesteps(7)).select(IMAGES, None).tolist()) == {7}
    assert set(bound(ZeroTimesteps()).select(IMAGES, None).tolist()) == {0}


def test_interval_timesteps_belong_to_their_pair():
    source, seen = bound(IntervalTimesteps([900, 400, 100]), layers=3), set()
    for _ in range(60):
        t = source.select(IMAGES, None)
        low, high = [(400, 900), (100, 400), (0, 100)][source.pair]
        assert low <= t.min()
        assert t.max() < high
        seen.add(source.pair)
    assert seen == {0, 1, 2}


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
        bound(make(), layers=layers)


@pytest.mark.parametrize(
    ('policy', 'size', 'parameters'),
    [
        (LeNetPolicy(1000, 32), 32, 146156),
        (LeNetPolicy(1000, 64), 64, 135292),
        (AlexNetPolicy(1000), 256, 2770984),
        (MLPPolicy(1000, 32), 32, 3072 * 128 + 128 + 128 * 128 + 128 + 128 * 1000 + 1000),
    ],
)
def test_policies_have_the_published_size(policy, size, parameters):
    assert sum(p.numel() for p in policy.parameters()) == parameters
    assert policy(torch.zeros(2, 3, size, size)).shape == (2, 1000)


def test_policies_of_small_and_grey_images():
    assert LeNetPolicy(5, 16, 1)(torch.zeros(2, 1, 16, 16)).shape == (2, 5)
    assert AlexNetPolicy(5, 24)(torch.zeros(2, 3, 24, 24)).shape == (2, 5)
    for small in (lambda: LeNetPolicy(5, 8), lambda: AlexNetPolicy(5, 16)):
        with pytest.raises(UserError, match='at least'):
            small()


@pytest.mark.parametrize(('hidden', 'width'), [(None, 256), (128, 128)])
def test_task_head_has_the_published_widths(hidden, width):
    shapes = [tuple(p.shape) for p in TaskHead(256, 10, hidden).parameters() if p.dim() == 2]
    assert shapes == [(width, 256), (width, width), (10, width)]
