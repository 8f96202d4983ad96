"""The selector hook in training runs: phases, checkpoints, resuming, logs and errors."""

import copy
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from reprefine.engine.errors import UserError
from reprefine.methods.repfusion import RLTimestepSelectorHook, read_histogram
from reprefine.methods.repfusion.functional import linear_decay
from tests.helpers.run import assert_equal

from ..run import distiller, make_runner, selector_hook, trained
from ..tiny import TEACHER, UNET


@HOOKS.register_module(force=True)
class Recording(Hook):
    """Records timesteps, losses, weights and phases of every iteration."""

    priority = 'LOWEST'

    def __init__(self):
        self.t, self.losses, self.policy, self.head, self.weights, self.phases, self.rates = [], [], [], [], [], [], []

    def before_train(self, runner):
        source = runner.model.timestep_source
        select = source.select

        def recording_select(x, data_samples):
            t = select(x, data_samples)
            self.t.append(t.clone())
            return t

        source.select = recording_select

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(outputs['loss'].item())
        source = runner.model.timestep_source
        if hasattr(source, 'nets'):
            nets = source.nets
            self.policy.append(torch.cat([p.detach().flatten().clone() for p in nets['policy'].parameters()]))
            if 'head' in nets:
                self.head.append(torch.cat([p.detach().flatten().clone() for p in nets['head'].parameters()]))
            self.weights.append(source.entropy_weight)
            self.phases.append(source.phase)
            self.rates.append(source.optimizer.param_groups[0]['lr'])


RECORDING = dict(type='Recording')


def recorded_run(folder, hook, **options):
    runner = trained(folder, hook, hooks=[RECORDING, *options.pop('hooks', [])], **options)
    return runner, next(h for h in runner.hooks if isinstance(h, Recording))


@pytest.fixture(scope='module')
def finished_run(tmp_path_factory):
    """A run of three epochs that several tests read."""
    folder = tmp_path_factory.mktemp('run')
    runner, watch = recorded_run(folder, dict(entropy_epochs=2))
    return folder, runner, watch


def test_policy_and_head_are_trained_and_the_histogram_counts_every_timestep(finished_run):
    folder, runner, watch = finished_run
    assert all(not torch.equal(a, b) for a, b in zip(watch.policy, watch.policy[1:], strict=False))
    assert all(not torch.equal(a, b) for a, b in zip(watch.head, watch.head[1:], strict=False))
    run = read_histogram(folder)
    timesteps = torch.cat(watch.t)
    assert run.epochs.tolist() == [1, 2, 3]
    assert run.counts.shape == (3, 1000)
    np.testing.assert_array_equal(run.counts.sum(axis=0), torch.bincount(timesteps, minlength=1000).numpy())
    np.testing.assert_allclose(run.stats['timestep_mean'], timesteps.view(3, 12).float().mean(dim=1), rtol=1e-6)
    np.testing.assert_allclose(np.nanmean(run.class_means, axis=1), run.stats['timestep_mean'], rtol=1e-6)
    assert (run.stats['policy_entropy'] <= np.log(1000)).all()
    assert (run.stats['reward'] < 0).all()


def test_entropy_weight_follows_the_epoch(finished_run):
    assert (
        finished_run[2].weights
        == [linear_decay(e, 0.1, 0.0, 2) for e in range(3) for _ in range(3)]
        == ([0.1] * 3 + [0.05] * 3 + [0.0] * 3)
    )


def test_checkpoint_has_the_selector_outside_the_state_dict(finished_run):
    folder, runner, _ = finished_run
    checkpoint = torch.load(folder / 'epoch_3.pth', weights_only=True)
    assert {key.split('.')[0] for key in checkpoint['state_dict']} == {'student', 'projectors'}
    state = checkpoint['repfusion_selector']
    assert {'version', 'policy', 'head', 'optimizer', 'baseline', 'histogram', 'phase', 'frozen_t', 'rng'} <= set(state)
    assert state['rng'] == 9
    in_optimizer = {id(p) for group in runner.optim_wrapper.param_groups for p in group['params']}
    assert not in_optimizer & {id(p) for p in runner.model.teacher.parameters()}
    assert not in_optimizer & {id(p) for p in selector_hook(runner).selector.nets.parameters()}


def test_model_has_its_own_source_after_training_and_statistics_are_logged(finished_run):
    _, runner, _ = finished_run
    assert type(runner.model.timestep_source).__name__ == 'UniformTimesteps'
    logged = runner.message_hub.log_scalars
    for name in (
        'timestep_mean',
        'reward',
        'reward_baseline',
        'policy_entropy',
        'effective_timesteps',
        'head_accuracy',
    ):
        assert len(logged[f'train/{name}']._log_history) == 9, name
    assert not any('loss' in key for key in logged if key not in ('train/loss', 'train/loss_feat'))


def test_resumed_run_equals_the_uninterrupted_one(finished_run, tmp_path):
    _, uninterrupted, watch = finished_run
    recorded_run(tmp_path, dict(entropy_epochs=2), train_cfg=dict(by_epoch=True, max_epochs=2))
    resumed, rest = recorded_run(tmp_path, dict(entropy_epochs=2), resume=True)
    assert rest.losses == watch.losses[6:]
    assert_equal(rest.t, watch.t[6:])
    assert_equal(rest.policy, watch.policy[6:])
    assert_equal(dict(resumed.model.state_dict()), dict(uninterrupted.model.state_dict()))
    ends = [selector_hook(runner).selector.state_dict() for runner in (resumed, uninterrupted)]
    assert_equal(*ends)
    assert_equal(*(selector_hook(runner).histogram.state_dict() for runner in (resumed, uninterrupted)))


def test_load_from_ignores_the_selector_and_resuming_without_one_warns(finished_run, tmp_path, capsys):
    folder, _, watch = finished_run
    _, other = recorded_run(tmp_path / 'a', dict(entropy_epochs=2), load_from=str(folder / 'epoch_3.pth'))
    assert_equal(other.t[0], watch.t[0])  # a new policy
    trained(tmp_path / 'b', train_cfg=dict(by_epoch=True, max_epochs=1))
    trained(tmp_path / 'b', {}, resume=True, train_cfg=dict(by_epoch=True, max_epochs=2))
    assert 'policy starts from its initialisation' in capsys.readouterr().out


def test_student_does_not_depend_on_whether_a_policy_selects_the_timesteps(tmp_path):
    """The same timesteps give the same student."""
    fixed = dict(candidates=[7], reward='neg_info_nce', head=None)
    by_policy, watch = recorded_run(tmp_path / 'policy', fixed)
    by_fixed_rule = trained(
        tmp_path / 'rule', model=distiller(timestep_source=dict(type='reprefine.FixedTimesteps', timestep=7))
    )
    assert set(torch.cat(watch.t).tolist()) == {7}
    assert_equal(dict(by_policy.model.state_dict()), dict(by_fixed_rule.model.state_dict()))


@pytest.mark.parametrize(
    ('warmup', 'iterations'), [(dict(warmup_iters=4), 4), (dict(warmup_epochs=2), 6)], ids=['iterations', 'epochs']
)
def test_warm_up_trains_only_the_head(tmp_path, warmup, iterations):
    _, watch = recorded_run(tmp_path, warmup)
    assert watch.phases == ['warmup'] * iterations + ['learn'] * (9 - iterations)
    assert all(torch.equal(watch.policy[0], policy) for policy in watch.policy[:iterations])
    assert not torch.equal(watch.policy[iterations - 1], watch.policy[iterations])
    assert not torch.equal(watch.head[0], watch.head[iterations - 1])


@pytest.mark.parametrize('scope', ['sample', 'global'])
def test_frozen_policy_is_not_trained_and_selects_the_most_probable_timestep(tmp_path, scope):
    runner, watch = recorded_run(tmp_path, dict(freeze_after_epoch=2, frozen_scope=scope, candidates=[3, 500, 900]))
    assert watch.phases == ['learn'] * 6 + ['frozen'] * 3
    assert all(torch.equal(watch.policy[5], policy) for policy in watch.policy[6:])
    assert all(torch.equal(watch.head[5], head) for head in watch.head[6:])
    selector = selector_hook(runner).selector
    if scope == 'global':
        mode = torch.bincount(torch.cat(watch.t[:6])).argmax().item()
        assert selector.frozen_t == mode
        assert set(torch.cat(watch.t[6:]).tolist()) == {mode}
    else:
        assert selector.frozen_t is None
    resumed, rest = recorded_run(
        tmp_path,
        dict(freeze_after_epoch=2, frozen_scope=scope, candidates=[3, 500, 900]),
        resume=True,
        train_cfg=dict(by_epoch=True, max_epochs=4),
    )
    assert rest.phases == ['frozen'] * 3
    assert torch.equal(rest.policy[-1], watch.policy[-1])


def test_low_entropy_freezes_after_enough_epochs(tmp_path):
    _, watch = recorded_run(tmp_path, dict(freeze_entropy=(10.0, 2)))  # always below
    assert watch.phases == ['learn'] * 6 + ['frozen'] * 3
    _, watch = recorded_run(tmp_path / 'never', dict(freeze_entropy=(0.1, 1)))
    assert watch.phases == ['learn'] * 9


def test_consecutive_epochs_of_low_entropy_count_across_a_resumed_run(tmp_path):
    def hook():
        made = RLTimestepSelectorHook(reward='neg_info_nce', freeze_entropy=(1.0, 2))
        made.histogram, made.selector = MagicMock(), MagicMock(phase='learn', state_dict=dict)
        return made

    def epoch(made, entropy):
        made.histogram.mean.return_value = entropy
        made.after_train_epoch(MagicMock(epoch=0, work_dir=tmp_path))
        return made.selector.phase

    uninterrupted = hook()
    assert [epoch(uninterrupted, entropy) for entropy in (0.5, 1.5, 0.5, 0.9)] == ['learn', 'learn', 'learn', 'frozen']
    first, second, checkpoint = hook(), hook(), {}
    epoch(first, 0.5)
    first.before_save_checkpoint(None, checkpoint)
    second.after_load_checkpoint(MagicMock(_resume=True), checkpoint)
    assert epoch(second, 0.5) == 'frozen'


def test_learning_rate_follows_the_schedule_of_the_student(tmp_path):
    schedule = [dict(type='MultiStepLR', milestones=[1, 2], gamma=0.1)]
    _, following = recorded_run(tmp_path / 'follows', {}, param_scheduler=schedule)
    _, constant = recorded_run(tmp_path / 'stays', dict(lr_follow=False), param_scheduler=schedule)
    np.testing.assert_allclose(following.rates, [0.1] * 3 + [0.01] * 3 + [0.001] * 3)
    np.testing.assert_allclose(constant.rates, [0.1] * 9)


def test_follow_accumulation_updates_in_the_steps_of_the_student(tmp_path):
    wrapper = dict(optimizer=dict(type='SGD', lr=0.05), accumulative_counts=2)
    _, watch = recorded_run(tmp_path, dict(follow_accumulation=True), optim_wrapper=wrapper)
    has_changed = [not torch.equal(a, b) for a, b in zip(watch.policy, watch.policy[1:], strict=False)]
    assert has_changed == [i in (0, 2, 4, 6, 7) for i in range(8)]  # the last of nine batches is a step of its own


def test_decay_of_the_limit_applies_to_the_policy_and_to_uniform_timesteps(tmp_path):
    decay = dict(type='reprefine.MaxTimestepDecayHook', start=900, end=10, epochs=2)
    _, policy = recorded_run(tmp_path / 'policy', {}, hooks=[decay])
    _, uniform = recorded_run(tmp_path / 'uniform', None, hooks=[decay])
    for watch in (policy, uniform):
        largest = torch.stack(watch.t).view(3, -1).amax(dim=1).tolist()
        assert largest[1] < 455
        assert largest[2] < 10
        assert largest[0] > 10


def test_reward_on_data_without_labels_names_the_remedy(tmp_path):
    with pytest.raises(UserError, match="'neg_ce' needs labels.*use reward='neg_info_nce'"):
        trained(tmp_path / 'ce', {}, labelled=False)
    runner = trained(tmp_path / 'nce', dict(reward='neg_info_nce', head=None), labelled=False)
    assert np.isfinite(read_histogram(runner.work_dir).stats['reward']).all()


def test_class_conditional_teacher_with_a_reward_on_labels_is_warned_about(tmp_path, capsys):
    conditional = {**TEACHER, 'source': {**UNET, 'num_class_embeds': 3}, 'label_map': 'identity'}
    runner = make_runner(
        tmp_path, {}, model=distiller(teacher=conditional), train_cfg=dict(by_epoch=True, max_epochs=1)
    )
    runner.train()
    assert "prefer reward='neg_info_nce'" in capsys.readouterr().out


def test_average_of_the_model_shares_the_teacher(tmp_path):
    ema = dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=0.1, update_buffers=False)
    runner = make_runner(tmp_path, {}, hooks=[ema])
    before = copy.deepcopy(runner.model.teacher.unet.state_dict())
    runner.train()
    averaged = next(h for h in runner.hooks if type(h).__name__ == 'EMAHook').ema_model.module
    assert averaged.teacher is runner.model.teacher
    assert not runner.model.teacher.training
    for key, value in runner.model.teacher.unet.state_dict().items():
        assert torch.equal(value, before[key]), key
    saved = torch.load(tmp_path / 'epoch_3.pth', weights_only=True)
    assert not [key for key in (*saved['state_dict'], *saved['ema_state_dict']) if 'teacher' in key or 'unet' in key]


def test_wrong_settings_are_named(tmp_path):
    for options, message in (
        (dict(reward='best'), "unknown reward 'best': use neg_ce, neg_info_nce, accuracy, neg_feature_mse"),
        (dict(reward='neg_info_nce', uniform_prob=1.0), r'uniform_prob=1.0: give at least 0 and less than 1'),
        (dict(reward='neg_info_nce', uniform_prob=-0.1), r'uniform_prob=-0.1'),
        (dict(reward='neg_ce'), 'needs a head'),
        (dict(reward='neg_info_nce', baseline='median'), "unknown baseline 'median'"),
        (dict(reward='neg_info_nce', frozen_scope='all'), "frozen_scope='all'"),
    ):
        with pytest.raises(UserError, match=message):
            RLTimestepSelectorHook(**options)
    with pytest.raises(UserError, match=r'candidates: timestep 1000 is outside 0..999'):
        trained(tmp_path, dict(candidates=[0, 1000]))
    with pytest.raises(UserError, match='counts epochs'):
        trained(tmp_path, {}, train_cfg=dict(by_epoch=False, max_iters=2))
    with pytest.raises(UserError, match='FixedTimesteps has no max_timestep'):
        source = dict(type='reprefine.FixedTimesteps', timestep=3)
        decay = dict(type='reprefine.MaxTimestepDecayHook')
        trained(tmp_path, model=distiller(timestep_source=source), hooks=[decay])
