"""The networks of the selector, and their learning rates."""

import pytest
import torch

from reprefine.methods.repfusion.policy.builder import build_nets, build_optimizer

from ..tiny import tiny_teacher


def nets(seed=0):
    return build_nets(tiny_teacher(), 7, dict(type='reprefine.MLPPolicy'), dict(num_classes=3), True, seed)


@pytest.mark.parametrize('head_lr', [None, 0.5])
def test_head_may_have_a_learning_rate_of_its_own(head_lr):
    made = nets()
    policy, head = build_optimizer(made, dict(type='SGD', lr=0.1, momentum=0.9), head_lr).param_groups
    assert [policy['lr'], head['lr']] == [policy['base_lr'], head['base_lr']] == [0.1, head_lr or 0.1]
    assert {id(p) for p in head['params']} == {id(p) for p in made['head'].parameters()}
    others = [*made['policy'].parameters(), *made['value'].parameters()]
    assert {id(p) for p in policy['params']} == {id(p) for p in others}


def test_seed_determines_the_weights_and_the_global_rng_state_does_not_change():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = nets(), nets(), nets(seed=1)
    assert torch.equal(before, torch.get_rng_state())
    images = torch.zeros(2, 3, 16, 16)
    assert first['policy'](images).shape == (2, 7)
    assert first['value'](images).shape == (2, 1)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert not torch.equal(first['policy'](images), other['policy'](images))
