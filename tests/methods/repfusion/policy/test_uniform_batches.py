"""Batches of uniform timesteps between those of a policy that is being trained."""

import copy

import pytest
import torch
from scipy import stats

from reprefine.methods.repfusion.functional import neg_ce, neg_info_nce
from tests.helpers.run import assert_equal

from ..run import uniform_batches
from .test_policy_timesteps import X, gradients, make_policy, train_step
from .test_selector_hook import recorded_run


def kinds(source, count=40):
    """Counts whose batch is uniform, and those whose batch is not."""
    is_uniform = uniform_batches(source.uniform_prob, count)
    return [i for i in range(count) if is_uniform[i]], [i for i in range(count) if not is_uniform[i]]


def parameters(source, name):
    return [p.detach().clone() for p in source.nets[name].parameters()]


def test_batches_are_uniform_over_the_candidates_below_the_limit_with_the_probability():
    source = make_policy(actions=6, uniform_prob=0.1)
    source.max_timestep = 5
    with torch.no_grad():
        source.nets['policy'][-1].bias[3] = 30.0  # the policy would always select 3
    uniform = []
    for _ in range(3000):
        t = source.select(X, None)
        if source.rollout.log_probs is None:
            uniform.append(t)
        else:
            assert set(t.tolist()) == {3}
    assert stats.binomtest(len(uniform), 3000, 0.1).pvalue > 0.001
    counts = torch.bincount(torch.cat(uniform), minlength=5).numpy()
    assert len(counts) == 5
    assert stats.chisquare(counts).pvalue > 0.001


@pytest.mark.parametrize('baseline', ['ema', 'value'])
def test_only_the_head_is_trained_by_a_uniform_batch(baseline):
    source = make_policy(baseline, uniform_prob=0.4)
    source.entropy_weight = 0.1
    expected = uniform_batches(0.4, 30)
    for is_uniform in expected:
        before, average = copy.deepcopy(source.nets), source.baseline.average
        row = train_step(source)
        assert (source.rollout.log_probs is None) is is_uniform
        has_changed = {
            name: not all(torch.equal(p, q) for p, q in zip(net.parameters(), before[name].parameters(), strict=True))
            for name, net in source.nets.items()
        }
        assert has_changed.pop('head')
        assert set(has_changed.values()) == {not is_uniform}
        assert row['reward'] == row['reward']
        assert (row['policy_entropy'] == row['policy_entropy']) is not is_uniform
        if baseline == 'ema':
            assert (source.baseline.average is average) is is_uniform
    assert set(expected) == {True, False}


@pytest.mark.parametrize('has_head', [True, False])
def test_uniform_batches_count_as_zero_in_the_mean_gradient_of_the_policy(has_head):
    source = make_policy(uniform_prob=0.4, reward=neg_ce if has_head else neg_info_nce)
    if not has_head:
        del source.nets['head']
    uniform, others = kinds(source)
    for order in ((uniform[0], others[0]), (others[1], uniform[1])):
        policy = source.nets['policy']
        source.optimizer.state.clear()  # no momentum
        for source.rng.count in order:
            train_step(source, update=False)
        single, start = [grad.clone() for grad in gradients(policy)], parameters(source, 'policy')
        source.update()
        for p, q, grad in zip(policy.parameters(), start, single, strict=True):
            torch.testing.assert_close(p, q - 0.1 * (grad / 2 + 1e-4 * q))


def test_training_resumes_exactly_with_both_kinds_of_batches():
    uninterrupted, first = (make_policy('ema', uniform_prob=0.4) for _ in range(2))
    is_uniform = uniform_batches(0.4, 24)
    assert set(is_uniform[:12]) == set(is_uniform[12:]) == {True, False}
    timesteps = []
    for i in range(24):
        train_step(uninterrupted, update=i % 2 == 1)  # the state is saved between two batches of one step
        timesteps.append(uninterrupted.rollout.timesteps)
    for i in range(13):
        train_step(first, update=i % 2 == 1)
    second = make_policy('ema', uniform_prob=0.4)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for i in range(13, 24):
        train_step(second, update=i % 2 == 1)
        assert_equal(second.rollout.timesteps, timesteps[i])
    assert_equal(second.state_dict(), uninterrupted.state_dict())


def test_probability_of_zero_selects_the_same_timesteps_as_the_default():
    default, zero = make_policy(), make_policy(uniform_prob=0.0)
    for _ in range(5):
        assert train_step(default) == train_step(zero)
        assert_equal(default.rollout.timesteps, zero.rollout.timesteps)


def test_a_run_has_uniform_batches_only_between_warm_up_and_freezing(tmp_path):
    runs = dict(uniform_prob=0.5, warmup_iters=2, freeze_after_epoch=2, candidates=[3, 500, 900])
    _, watch = recorded_run(tmp_path, runs)
    assert watch.phases == ['warmup'] * 2 + ['learn'] * 4 + ['frozen'] * 3
    is_unchanged = [torch.equal(a, b) for a, b in zip(watch.policy, watch.policy[1:], strict=False)]
    is_uniform = uniform_batches(0.5, 6)
    assert is_unchanged == [True, *is_uniform[2:], True, True, True]
    assert set(is_uniform[2:]) == {True, False}
