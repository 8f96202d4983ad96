"""Gradients and updates of the policy, and the timesteps that it selects."""

import copy

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.structures import DataSample
from scipy import stats
from torch import nn

from reprefine.engine.errors import UserError
from reprefine.methods.repfusion.functional import entropy, neg_ce, neg_info_nce
from reprefine.methods.repfusion.policy.histogram import STATS, TimestepHistogram
from reprefine.methods.repfusion.policy.policy_networks import MLPPolicy, TaskHead
from reprefine.methods.repfusion.policy.policy_timesteps import PolicyTimesteps
from reprefine.methods.repfusion.policy.reward_baseline import RewardBaseline

X = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
FEATS = torch.randn(8, 6, 2, 2, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(8) % 3
SAMPLES = [DataSample().set_gt_label(int(label)) for label in LABELS]


def make_policy(baseline='none', actions=5, reward=neg_ce, lr=0.1, **options):
    torch.manual_seed(0)
    nets = nn.ModuleDict(dict(policy=MLPPolicy(actions, 4, hidden=16), head=TaskHead(6, 3)))
    if baseline == 'value':
        nets['value'] = MLPPolicy(1, 4, hidden=16)
    optimizer = torch.optim.SGD(nets.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
    source = PolicyTimesteps(nets, optimizer, reward, RewardBaseline(baseline), range(actions), **options)
    source.bind(actions)
    return source


def train_step(source, update=True, samples=SAMPLES):
    t = source.select(X, samples)
    source.observe(t, [FEATS], samples)
    return dict(zip(STATS, source.learn(update).tolist(), strict=True))


def gradient(baseline, shift, batches=1):
    """Gradient of the policy for rewards shifted by a constant."""
    source = make_policy(baseline, reward=lambda logits, feats, labels: neg_ce(logits, feats, labels) + shift, lr=0.0)
    for _ in range(batches):
        train_step(source)
    source.rng.count = 0
    train_step(source, update=False)
    return torch.cat([p.grad.flatten() for p in source.nets['policy'].parameters()])


def test_separate_optimisers_equal_one_joint_optimiser():
    """Student, head and policy in one optimiser with the summed loss: the same parameters after two steps."""
    split = make_policy()
    split.entropy_weight = 0.1
    torch.manual_seed(3)
    student = nn.Linear(48, 6)
    joint_nets, joint_student = copy.deepcopy(split.nets), copy.deepcopy(student)
    sgd = dict(lr=0.1, momentum=0.9, weight_decay=1e-4)
    own = torch.optim.SGD(student.parameters(), **sgd)
    joint = torch.optim.SGD([*joint_student.parameters(), *joint_nets.parameters()], **sgd)
    pooled = FEATS.mean(dim=(2, 3))
    for _ in range(2):
        own.zero_grad()
        F.mse_loss(student(X.flatten(1)), pooled).backward()
        own.step()
        train_step(split)
        t = split.rollout.timesteps
        log_probs = joint_nets['policy'](X).log_softmax(dim=1)
        cross_entropy = F.cross_entropy(joint_nets['head'](pooled), LABELS, reduction='none')
        total = F.mse_loss(joint_student(X.flatten(1)), pooled) + cross_entropy.mean()
        total = total - (log_probs[range(8), t] * -cross_entropy.detach()).mean() - 0.1 * entropy(log_probs).mean()
        joint.zero_grad()
        total.backward()
        joint.step()
    for a, b in ((split.nets, joint_nets), (student, joint_student)):
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-6)


def test_constant_in_the_reward_changes_the_gradient_only_without_a_baseline():
    assert (gradient('none', 5.0) - gradient('none', 0.0)).abs().max() > 1e-2
    torch.testing.assert_close(gradient('batch_mean', 5.0), gradient('batch_mean', 0.0), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(gradient('ema', 5.0, 100), gradient('ema', 0.0, 100), rtol=1e-4, atol=1e-6)


def test_value_network_learns_the_reward():
    source = make_policy('value', lr=0.05)
    first = None
    for _ in range(150):
        train_step(source)
        error = F.mse_loss(source.rollout.values, torch.tensor(-1.0).expand(8))
        first = error.item() if first is None else first
    source.optimizer.param_groups[0]['lr'] = 0.0
    row = train_step(source)
    assert row['reward_baseline'] == pytest.approx(row['reward'], abs=0.15)


def test_head_learns_the_labels_and_the_reward_increases():
    source = make_policy('ema')
    rows = [train_step(source) for _ in range(60)]
    assert rows[-1]['head_accuracy'] == 1
    assert rows[-1]['reward'] > rows[0]['reward'] + 0.8


def gradients(net):
    return [p.grad for p in net.parameters()]


@pytest.mark.parametrize('baseline', ['none', 'batch_mean', 'ema', 'value'])
def test_head_is_trained_by_its_cross_entropy_alone(baseline):
    """The reward is detached from the head, with any baseline."""
    source = make_policy(baseline, lr=0.0)
    train_step(source, update=False)
    head = source.nets['head']
    expected = torch.autograd.grad(F.cross_entropy(head(FEATS.mean(dim=(2, 3))), LABELS), list(head.parameters()))
    for gradient, expected_gradient in zip(gradients(head), expected, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-8)


def with_labels(*labels):
    return [DataSample() if label is None else DataSample().set_gt_label(label) for label in labels]


def test_labels_of_every_batch_are_checked():
    source = make_policy()
    for _ in range(2):
        train_step(source)
    with pytest.raises(UserError, match="'neg_ce' needs labels, but images .* have none .*: use reward='neg_info_nce'"):
        train_step(source, samples=with_labels(0, 1, 2, 0, 1, 2, 0, -1))
    with pytest.raises(UserError, match=r'label 3 .* the 3 classes of the head: set head=dict\(num_classes=4\)'):
        train_step(source, samples=with_labels(0, 1, 2, 0, 1, 2, 0, 3))


@pytest.mark.parametrize('unlabelled', [-1, None])
def test_head_is_trained_on_labelled_images_and_the_policy_on_all(unlabelled):
    """A batch without labels has a gradient of 0, so that all ranks average equally many gradients."""
    source = make_policy(reward=neg_info_nce, lr=0.0)
    histogram = TimestepHistogram(5, num_classes=3)
    for labels in ([0, 1, unlabelled, unlabelled, 2, 1, 0, unlabelled], LABELS.tolist(), [unlabelled] * 8):
        row = train_step(source, update=False, samples=with_labels(*labels))
        histogram.add(source.rollout.timesteps, source.rollout.labels, torch.tensor(list(row.values())))
        labelled = [i for i, label in enumerate(labels) if label not in (-1, None)]
        assert (row['head_accuracy'] == row['head_accuracy']) is bool(labelled)
        assert row['reward'] == row['reward']
        if labelled:
            logits = source.nets['head'](FEATS.mean(dim=(2, 3))[labelled])
            truth = torch.tensor([labels[i] for i in labelled])
            assert row['head_accuracy'] == pytest.approx((logits.argmax(1) == truth).double().mean().item())
            expected = torch.autograd.grad(F.cross_entropy(logits, truth), list(source.nets['head'].parameters()))
        else:
            expected = [torch.zeros_like(p) for p in source.nets['head'].parameters()]
        for gradient, expected_gradient in zip(gradients(source.nets['head']), expected, strict=True):
            torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-8)
        source.update()
    assert histogram.running['classes'][1].tolist() == [5, 5, 3]
    assert histogram.running['counts'].sum() == 24


def test_accumulated_gradients_are_averaged():
    both, single = make_policy(lr=0.1), make_policy(lr=0.1)
    single.rng.count = both.rng.count = 4
    train_step(single)
    train_step(both, update=False)
    both.rng.count = 4
    train_step(both)  # the same batch twice: the mean is the batch
    for p, q in zip(both.nets.parameters(), single.nets.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-7)


def test_gradient_is_clipped():
    free, clipped = make_policy(lr=1.0), make_policy(lr=1.0, grad_clip=1e-3)
    before = copy.deepcopy(clipped.nets)
    train_step(free), train_step(clipped)
    steps = [
        torch.cat(
            [(p - q).flatten() for p, q in zip(source.nets.parameters(), before.parameters(), strict=True)]
        ).norm()
        for source in (free, clipped)
    ]
    assert steps[0] > 10 * steps[1]


def test_warm_up_is_uniform_over_the_candidates_below_the_limit():
    source = make_policy(actions=20)
    source.phase, source.max_timestep = 'warmup', 15
    with torch.no_grad():
        source.nets['policy'][-1].bias[3] = 20.0  # the policy would always select 3
    t = source.select(torch.zeros(6000, 3, 4, 4), None)
    counts = torch.bincount(t, minlength=15).numpy()
    assert len(counts) == 15
    assert stats.chisquare(counts).pvalue > 0.001


def test_samples_follow_the_probabilities_and_a_frozen_policy_selects_the_most_probable():
    source = make_policy(actions=4)
    with torch.no_grad():
        source.nets['policy'][-1].weight.zero_()
        source.nets['policy'][-1].bias.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4]).log())
    counts = torch.bincount(source.select(torch.zeros(8000, 3, 4, 4), None), minlength=4).numpy()
    assert stats.chisquare(counts, [800, 1600, 2400, 3200]).pvalue > 0.001
    source.phase = 'frozen'
    assert set(source.select(X, None).tolist()) == {3}
    source.max_timestep = 2
    assert set(source.select(X, None).tolist()) == {1}
    source.frozen_t = 0
    assert set(source.select(X, None).tolist()) == {0}


def test_actions_are_mapped_to_candidates():
    torch.manual_seed(0)
    nets = nn.ModuleDict(dict(policy=MLPPolicy(2, 4)))
    source = PolicyTimesteps(nets, torch.optim.SGD(nets.parameters(), 0.1), neg_ce, RewardBaseline(), [50, 700])
    assert set(source.select(X.repeat(8, 1, 1, 1), None).tolist()) == {50, 700}


def test_losses_are_finite_for_probabilities_that_underflow_in_half_precision():
    source = make_policy('ema', actions=6)
    with torch.no_grad():
        source.nets['policy'][-1].weight.mul_(0.1)
        source.nets['policy'][-1].bias.copy_(torch.tensor([30.0, -30, 10, -10, 29, 0]))
    source.entropy_weight = 0.1
    with torch.autocast('cpu', torch.float16):
        row = train_step(source)
    assert all(abs(value) < 100 for value in row.values())
    assert all(p.isfinite().all() and p.dtype == torch.float32 for p in source.nets.parameters())


@pytest.mark.parametrize('baseline', ['batch_mean', 'value'])
@pytest.mark.parametrize('phase', ['warmup', 'learn', 'frozen'])
def test_autocast_has_no_effect(baseline, phase):
    """Samples, statistics and gradients of all networks are those in float32."""
    results = []
    for enabled in (False, True):
        source = make_policy(baseline)
        source.phase, source.entropy_weight = phase, 0.1
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            row = train_step(source, update=False)
        grads = [p.grad for p in source.nets.parameters() if p.grad is not None]
        results.append((source.rollout.timesteps, list(row.values()), grads))
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1:], results[1][1:], rtol=0, atol=0, equal_nan=True)


def test_training_resumes_exactly_from_the_state():
    first, second = make_policy('ema'), make_policy('ema')
    for _ in range(3):
        train_step(first)
    train_step(first, update=False)
    state = copy.deepcopy(first.state_dict())
    second.load_state_dict(state)
    for source in (first, second):
        train_step(source)
    for p, q in zip(first.nets.parameters(), second.nets.parameters(), strict=True):
        assert torch.equal(p, q)
