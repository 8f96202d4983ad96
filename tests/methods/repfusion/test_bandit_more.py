"""The policy finds the best of a thousand timesteps, whatever the seed: the other four of nine."""

import pytest

from .bandit import expected_reward_of_bump


@pytest.mark.parametrize('seed', range(5, 9))
def test_policy_finds_the_best_of_a_thousand_timesteps(seed):
    reward, best = expected_reward_of_bump('ema', seed)
    assert reward > -1.9  # three quarters of the gain
    assert abs(best - 60) <= 15
