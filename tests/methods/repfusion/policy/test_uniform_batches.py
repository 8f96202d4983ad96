"""Batches of uniform timesteps between those of a policy that is being trained."""

import copy

import pytest
import torch
from scipy import stats

from reprefine.methods.repfusion.functional import neg_ce, neg_info_nce
from tests.helpers.run import assert_equal

from ..run import uniform_batches
from .test_policy_timesteps import X, gradients, learner, once
from .test_selector_hook import watched


def kinds(made, count=40):
    """Counts whose batch is uniform, and those whose batch is not."""
    is_uniform = uniform_batches(made.uniform_prob, count)
    return [i for i in range(count) if is_uniform[i]], [i for i in range(count) if not is_uniform[i]]


def parameters(made, name):
    return [p.detach().clone() for p in made.nets[name].parameters()]


def test_whole_batches_are_uniform_over_the_candidates_allowed_with_their_probability():
    made = learner(actions=6, uniform_prob=0.1)
    made.max_timestep = 5
    with torch.no_grad():
        made.nets['policy'][-1].bias[3] = 30.0  # the policy itself always takes 3
    chosen = []
    for _ in range(3000):
        t = made.select(X, None)
        if made.rollout.log_probs is None:
            chosen.append(t)
        else:
            assert set(t.tolist()) == {3}
    assert stats.binomtest(len(chosen), 3000, 0.1).pvalue > 0.001
    counts = torch.bincount(torch.cat(chosen), minlength=5).numpy()
    assert len(counts) == 5
    assert stats.chisquare(counts).pvalue > 0.001


@pytest.mark.parametrize('baseline', ['ema', 'value'])
def test_head_alone_learns_from_them(baseline):
    made = learner(baseline, uniform_prob=0.4)
    made.entropy_weight = 0.1
    expected = uniform_batches(0.4, 30)
    for is_uniform in expected:
        before, average = copy.deepcopy(made.nets), made.baseline.average
        row = once(made)
        assert (made.rollout.log_probs is None) is is_uniform
        moved = {
            name: not all(torch.equal(p, q) for p, q in zip(net.parameters(), before[name].parameters(), strict=True))
            for name, net in made.nets.items()
        }
        assert moved.pop('head')
        assert set(moved.values()) == {not is_uniform}
        assert row['reward'] == row['reward']
        assert (row['policy_entropy'] == row['policy_entropy']) is not is_uniform
        if baseline == 'ema':
            assert (made.baseline.average is average) is is_uniform
    assert set(expected) == {True, False}


@pytest.mark.parametrize('has_head', [True, False])
def test_accumulated_ones_count_as_zero_in_the_mean_gradient_of_the_policy(has_head):
    made = learner(uniform_prob=0.4, reward=neg_ce if has_head else neg_info_nce)
    if not has_head:
        del made.nets['head']
    uniform, others = kinds(made)
    for order in ((uniform[0], others[0]), (others[1], uniform[1])):
        policy = made.nets['policy']
        made.optimizer.state.clear()  # no momentum
        for made.rng.count in order:
            once(made, update=False)
        single, start = [grad.clone() for grad in gradients(policy)], parameters(made, 'policy')
        made.update()
        for p, q, grad in zip(policy.parameters(), start, single, strict=True):
            torch.testing.assert_close(p, q - 0.1 * (grad / 2 + 1e-4 * q))


def test_state_goes_on_exactly_through_both_kinds():
    whole, first = (learner('ema', uniform_prob=0.4) for _ in range(2))
    drawn = uniform_batches(0.4, 24)
    assert set(drawn[:12]) == set(drawn[12:]) == {True, False}
    chosen = []
    for i in range(24):
        once(whole, update=i % 2 == 1)  # the state is taken between two batches of one step
        chosen.append(whole.rollout.timesteps)
    for i in range(13):
        once(first, update=i % 2 == 1)
    second = learner('ema', uniform_prob=0.4)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for i in range(13, 24):
        once(second, update=i % 2 == 1)
        assert_equal(second.rollout.timesteps, chosen[i])
    assert_equal(second.state_dict(), whole.state_dict())


def test_probability_of_zero_draws_what_it_always_drew():
    plain, zero = learner(), learner(uniform_prob=0.0)
    for _ in range(5):
        assert once(plain) == once(zero)
        assert_equal(plain.rollout.timesteps, zero.rollout.timesteps)


def test_a_run_has_them_between_warm_up_and_freezing_alone(tmp_path):
    runs = dict(uniform_prob=0.5, warmup_iters=2, freeze_after_epoch=2, candidates=[3, 500, 900])
    _, watch = watched(tmp_path, runs)
    assert watch.phases == ['warmup'] * 2 + ['learn'] * 4 + ['frozen'] * 3
    still = [torch.equal(a, b) for a, b in zip(watch.policy, watch.policy[1:], strict=False)]
    drawn = uniform_batches(0.5, 6)
    assert still == [True, *drawn[2:], True, True, True]
    assert set(drawn[2:]) == {True, False}
