"""The policy finds the best of a thousand timesteps, whatever the seed: nine of them."""

import math

import pytest

from .bandit import expected_reward_of_bump

GAINED = -1.9  # three quarters of what there is to gain


@pytest.mark.parametrize('seed', range(9))
def test_policy_finds_the_best_of_a_thousand_timesteps(seed):
    """The first seed is trained to the end, the others until they have found it."""
    reward, best = expected_reward_of_bump('ema', seed, enough=GAINED if seed else math.inf)
    assert reward > GAINED
    assert abs(best - 60) <= 15
