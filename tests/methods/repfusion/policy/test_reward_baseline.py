"""The moving average of rewards."""

import pytest
import torch

from reprefine.methods.repfusion.policy.reward_baseline import RewardBaseline


def test_moving_average_starts_with_the_first_mean_and_is_used_before_its_update():
    baseline, means = RewardBaseline('ema'), [-2.0, -1.0, 0.0]
    assert [baseline(torch.tensor(mean)).item() for mean in means] == pytest.approx([-2.0, -2.0, -1.9])
    assert baseline.average.item() == pytest.approx(0.9 * -1.9)
    other = RewardBaseline('ema')
    other.load_state_dict(baseline.state_dict())
    assert other(torch.tensor(7.0)).item() == pytest.approx(-1.71)
