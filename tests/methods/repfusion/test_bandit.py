import pytest

from .bandit import expected_reward_of_bump


@pytest.mark.parametrize('seed', range(9))
def test_policy_finds_the_best_of_a_thousand_timesteps_for_every_seed(seed):
    reward, best = expected_reward_of_bump('ema', seed)
    assert reward > -1.9
    assert abs(best - 60) <= 15
