"""How the policy learns from one batch."""

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


def learner(baseline='none', actions=5, reward=neg_ce, lr=0.1, **options):
    torch.manual_seed(0)
    nets = nn.ModuleDict(dict(policy=MLPPolicy(actions, 4, hidden=16), head=TaskHead(6, 3)))
    if baseline == 'value':
        nets['value'] = MLPPolicy(1, 4, hidden=16)
    optimizer = torch.optim.SGD(nets.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
    made = PolicyTimesteps(nets, optimizer, reward, RewardBaseline(baseline), range(actions), **options)
    made.bind(actions)
    return made


def once(made, update=True, samples=SAMPLES):
    t = made.select(X, samples)
    made.observe(t, [FEATS], samples)
    return dict(zip(STATS, made.learn(update).tolist(), strict=True))


def gradient(baseline, shift, batches=1):
    """Gradient of the policy for rewards shifted by a constant."""
    made = learner(baseline, reward=lambda logits, feats, labels: neg_ce(logits, feats, labels) + shift, lr=0.0)
    for _ in range(batches):
        once(made)
    made.rng.count = 0
    once(made, update=False)
    return torch.cat([p.grad.flatten() for p in made.nets['policy'].parameters()])


def test_own_optimiser_does_what_one_for_all_would_do():
    """Student, head and policy in one optimiser with the summed loss: the same parameters after two steps."""
    split = learner()
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
        once(split)
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


def test_constant_reward_moves_the_policy_only_without_a_baseline():
    assert (gradient('none', 5.0) - gradient('none', 0.0)).abs().max() > 1e-2
    torch.testing.assert_close(gradient('batch_mean', 5.0), gradient('batch_mean', 0.0), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(gradient('ema', 5.0, 100), gradient('ema', 0.0, 100), rtol=1e-4, atol=1e-6)


def test_moving_average_begins_with_the_first_mean_and_is_used_before_it_moves():
    baseline, means = RewardBaseline('ema'), [-2.0, -1.0, 0.0]
    assert [baseline(torch.tensor(mean)).item() for mean in means] == pytest.approx([-2.0, -2.0, -1.9])
    assert baseline.average.item() == pytest.approx(0.9 * -1.9)
    other = RewardBaseline('ema')
    other.load_state_dict(baseline.state_dict())
    assert other(torch.tensor(7.0)).item() == pytest.approx(-1.71)


def test_value_network_learns_the_reward():
    made = learner('value', lr=0.05)
    first = None
    for _ in range(150):
        once(made)
        error = F.mse_loss(made.rollout.values, torch.tensor(-1.0).expand(8))
        first = error.item() if first is None else first
    made.optimizer.param_groups[0]['lr'] = 0.0
    row = once(made)
    assert row['reward_baseline'] == pytest.approx(row['reward'], abs=0.15)


def test_head_learns_its_labels_and_the_reward_rises():
    made = learner('ema')
    rows = [once(made) for _ in range(60)]
    assert rows[-1]['head_accuracy'] == 1
    assert rows[-1]['reward'] > rows[0]['reward'] + 0.8


def gradients(net):
    return [p.grad for p in net.parameters()]


@pytest.mark.parametrize('baseline', ['none', 'batch_mean', 'ema', 'value'])
def test_head_learns_from_its_labels_alone(baseline):
    """Whatever the reward is compared with, its gradient stops before the head."""
    made = learner(baseline, lr=0.0)
    once(made, update=False)
    head = made.nets['head']
    expected = torch.autograd.grad(F.cross_entropy(head(FEATS.mean(dim=(2, 3))), LABELS), list(head.parameters()))
    for ours, theirs in zip(gradients(head), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-8)


def with_labels(*labels):
    return [DataSample() if label is None else DataSample().set_gt_label(label) for label in labels]


def test_labels_of_every_batch_are_checked():
    made = learner()
    for _ in range(2):
        once(made)
    with pytest.raises(UserError, match="'neg_ce' needs labels, but images .* have none .*: use reward='neg_info_nce'"):
        once(made, samples=with_labels(0, 1, 2, 0, 1, 2, 0, -1))
    with pytest.raises(UserError, match=r'label 3 .* the 3 classes of the head: set head=dict\(num_classes=4\)'):
        once(made, samples=with_labels(0, 1, 2, 0, 1, 2, 0, 3))


@pytest.mark.parametrize('unknown', [-1, None])
def test_head_learns_from_the_images_with_a_label_and_the_policy_from_all(unknown):
    """In whichever batch they stand; one without any label has a gradient of 0, so that all ranks average the same."""
    made = learner(reward=neg_info_nce, lr=0.0)
    histogram = TimestepHistogram(5, num_classes=3)
    for labels in ([0, 1, unknown, unknown, 2, 1, 0, unknown], LABELS.tolist(), [unknown] * 8):
        row = once(made, update=False, samples=with_labels(*labels))
        histogram.add(made.rollout.timesteps, made.rollout.labels, torch.tensor(list(row.values())))
        known = [i for i, label in enumerate(labels) if label not in (-1, None)]
        assert (row['head_accuracy'] == row['head_accuracy']) is bool(known)
        assert row['reward'] == row['reward']
        if known:
            logits = made.nets['head'](FEATS.mean(dim=(2, 3))[known])
            truth = torch.tensor([labels[i] for i in known])
            assert row['head_accuracy'] == pytest.approx((logits.argmax(1) == truth).double().mean().item())
            expected = torch.autograd.grad(F.cross_entropy(logits, truth), list(made.nets['head'].parameters()))
        else:
            expected = [torch.zeros_like(p) for p in made.nets['head'].parameters()]
        for ours, theirs in zip(gradients(made.nets['head']), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-8)
        made.update()
    assert histogram.running['classes'][1].tolist() == [5, 5, 3]
    assert histogram.running['counts'].sum() == 24


def test_waiting_gradients_are_averaged():
    both, single = learner(lr=0.1), learner(lr=0.1)
    single.rng.count = both.rng.count = 4
    once(single)
    once(both, update=False)
    both.rng.count = 4
    once(both)  # the same batch twice: the mean is the batch
    for p, q in zip(both.nets.parameters(), single.nets.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-7)


def test_gradient_is_clipped():
    free, clipped = learner(lr=1.0), learner(lr=1.0, grad_clip=1e-3)
    before = copy.deepcopy(clipped.nets)
    once(free), once(clipped)
    moves = [
        torch.cat([(p - q).flatten() for p, q in zip(made.nets.parameters(), before.parameters(), strict=True)]).norm()
        for made in (free, clipped)
    ]
    assert moves[0] > 10 * moves[1]


def test_warm_up_is_uniform_over_the_candidates_allowed():
    made = learner(actions=20)
    made.phase, made.max_timestep = 'warmup', 15
    with torch.no_grad():
        made.nets['policy'][-1].bias[3] = 20.0  # a policy that would always take 3
    t = made.select(torch.zeros(6000, 3, 4, 4), None)
    counts = torch.bincount(t, minlength=15).numpy()
    assert len(counts) == 15
    assert stats.chisquare(counts).pvalue > 0.001


def test_choices_follow_the_probabilities_and_a_frozen_policy_takes_the_largest():
    made = learner(actions=4)
    with torch.no_grad():
        made.nets['policy'][-1].weight.zero_()
        made.nets['policy'][-1].bias.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4]).log())
    counts = torch.bincount(made.select(torch.zeros(8000, 3, 4, 4), None), minlength=4).numpy()
    assert stats.chisquare(counts, [800, 1600, 2400, 3200]).pvalue > 0.001
    made.phase = 'frozen'
    assert set(made.select(X, None).tolist()) == {3}
    made.max_timestep = 2
    assert set(made.select(X, None).tolist()) == {1}
    made.frozen_t = 0
    assert set(made.select(X, None).tolist()) == {0}


def test_candidates_are_what_actions_stand_for():
    torch.manual_seed(0)
    nets = nn.ModuleDict(dict(policy=MLPPolicy(2, 4)))
    made = PolicyTimesteps(nets, torch.optim.SGD(nets.parameters(), 0.1), neg_ce, RewardBaseline(), [50, 700])
    assert set(made.select(X.repeat(8, 1, 1, 1), None).tolist()) == {50, 700}


def test_probabilities_that_underflow_half_precision_stay_finite_under_autocast():
    made = learner('ema', actions=6)
    with torch.no_grad():
        made.nets['policy'][-1].weight.mul_(0.1)
        made.nets['policy'][-1].bias.copy_(torch.tensor([30.0, -30, 10, -10, 29, 0]))
    made.entropy_weight = 0.1
    with torch.autocast('cpu', torch.float16):
        row = once(made)
    assert all(value == value and abs(value) < 100 for value in row.values())
    assert all(p.isfinite().all() and p.dtype == torch.float32 for p in made.nets.parameters())


@pytest.mark.parametrize('baseline', ['batch_mean', 'value'])
@pytest.mark.parametrize('phase', ['warmup', 'learn', 'frozen'])
def test_autocast_changes_nothing(baseline, phase):
    """Samples, statistics and gradients of all networks are those in float32."""
    results = []
    for enabled in (False, True):
        made = learner(baseline)
        made.phase, made.entropy_weight = phase, 0.1
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            row = once(made, update=False)
        grads = [p.grad for p in made.nets.parameters() if p.grad is not None]
        results.append((made.rollout.timesteps, list(row.values()), grads))
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1:], results[1][1:], rtol=0, atol=0, equal_nan=True)


def test_state_goes_on_exactly():
    first, second = learner('ema'), learner('ema')
    for _ in range(3):
        once(first)
    once(first, update=False)
    state = copy.deepcopy(first.state_dict())
    second.load_state_dict(state)
    for made in (first, second):
        once(made)
    for p, q in zip(first.nets.parameters(), second.nets.parameters(), strict=True):
        assert torch.equal(p, q)


def test_histogram_counts_rows_and_classes(tmp_path):
    histogram = TimestepHistogram(10, num_classes=2)
    row = torch.full((len(STATS),), float('nan'), dtype=torch.float64)
    row[STATS.index('reward')] = -2.0
    histogram.add(torch.tensor([1, 1, 9]), torch.tensor([0, 1, 1]), row)
    row[STATS.index('reward')] = -1.0
    histogram.add(torch.tensor([2]), torch.tensor([0]), row)
    assert histogram.mean('reward') == -1.5
    assert histogram.mean('policy_entropy') != histogram.mean('policy_entropy')
    histogram.end_epoch(1)
    assert histogram.total().tolist() == [0, 2, 1, 0, 0, 0, 0, 0, 0, 1]
    histogram.add(torch.tensor([4]), torch.tensor([0]), row)
    other = TimestepHistogram(10, num_classes=2)
    other.load_state_dict(histogram.state_dict())
    assert other.total().tolist() == histogram.total().tolist()
    other.end_epoch(2)
    assert other.rows['classes'].tolist() == [[[3, 10], [2, 2]], [[4, 0], [1, 0]]]
