"""Sizes of the policy networks and of the task head."""

import pytest
import torch

from reprefine.engine.errors import UserError
from reprefine.methods.repfusion import AlexNetPolicy, LeNetPolicy, MLPPolicy
from reprefine.methods.repfusion.policy.policy_networks import TaskHead


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
