"""Training stops at the step whose loss or gradient is not finite, with weights and optimiser as they were."""

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.structures import BaseDataElement
from torch import nn
from torch.utils.data import DataLoader

from reprefine.engine.config_check.check import check_config
from reprefine.engine.config_check.options import merge_options
from reprefine.engine.errors import UserError
from reprefine.engine.finite_check.flag_reader import FlagReader
from reprefine.engine.finite_check.hook import FiniteCheckHook
from reprefine.engine.finite_check.nonfinite import NonFiniteError
from reprefine.engine.finite_check.step_pre_hooks import scales_gradients
from reprefine.engine.runner import Runner
from tests.helpers.run import assert_equal

FAILING = 3  # index of the failing sample, and of its iteration


class BadGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied by ``value`` where the input is at least ``FAILING``."""

    @staticmethod
    def forward(ctx, x, at, value):
        ctx.bad, ctx.value = bool((at >= FAILING).any()), value
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return (grad * ctx.value if ctx.bad else grad), None, None


class Model(BaseModel):
    """Two terms over one weight each; ``failure`` is what is not finite at the sample with number ``FAILING``."""

    def __init__(self, failure='', value=float('nan')):
        super().__init__()
        self.first, self.second = nn.Linear(1, 1), nn.Linear(1, 1)
        self.failure, self.value = failure, value

    def forward(self, inputs, data_samples, mode='loss'):
        first, second = self.first(inputs), self.second(inputs)
        if self.failure == 'gradient':
            second = BadGradient.apply(second, inputs, self.value)
        terms = dict(loss_first=first.square().mean(), loss_second=second.square().mean(), accuracy=first.sum() / 0)
        if self.failure == 'loss' and (inputs >= FAILING).any():
            terms['loss_second'] = terms['loss_second'] * 0 + self.value
        if self.failure == 'detached' and (inputs >= FAILING).any():  # which leaves the gradient finite
            terms['loss_second'] = terms['loss_second'] + self.value
        return terms


def batches(count=5):
    samples = [(float(i), BaseDataElement(metainfo=dict(img_path=f'images/{i}.png'))) for i in range(count)]
    collate = lambda items: dict(inputs=torch.tensor([[x] for x, _ in items]), data_samples=[s for _, s in items])  # noqa: E731
    return DataLoader(samples, batch_size=1, collate_fn=collate)


class StateRecorder(Hook):
    """Copies weights and optimiser before each step, and records which steps ended."""

    def __init__(self):
        self.ended = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        wrapper = runner.optim_wrapper
        self.state = [{k: v.clone() for k, v in runner.model.state_dict().items()}, str(wrapper.state_dict())]

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.ended.append(runner.iter)


def make_runner(tmp_path, model, optim_wrapper=None, hooks=(), **options):
    recorder = StateRecorder()
    optimizer = dict(type='SGD', lr=1e-3, momentum=0.9)
    runner = Runner(
        model,
        str(tmp_path),
        train_dataloader=batches(),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=optim_wrapper or dict(optimizer=optimizer),
        custom_hooks=[recorder, *hooks],
        experiment_name=tmp_path.name,
        cfg=dict(options),
    )
    return runner, recorder


def train_until_error(runner, recorder):
    """Train, check that the error left weights and optimizer unchanged, and return its message."""
    with pytest.raises(NonFiniteError) as caught:
        runner.train()
    weights, optimizer = recorder.state
    assert_equal(dict(runner.model.state_dict()), weights)
    assert str(runner.optim_wrapper.state_dict()) == optimizer
    assert '\n' not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
@pytest.mark.parametrize('failure', ['loss', 'detached'])
@pytest.mark.parametrize('clip', [None, dict(max_norm=1.0), dict(type='value', clip_value=1.0)])
def test_a_loss_that_is_not_finite_stops_before_the_update(tmp_path, failure, value, clip):
    wrapper = dict(optimizer=dict(type='SGD', lr=1e-3, momentum=0.9), clip_grad=clip)
    runner, recorder = make_runner(tmp_path, Model(failure, value), wrapper)
    text = train_until_error(runner, recorder)
    assert text.startswith(f'loss is not finite at iteration {FAILING + 1} (epoch 1): loss_second = {value}; ')
    assert f'samples: images/{FAILING}.png; ' in text
    assert 'loss_first' not in text
    assert recorder.ended == [0, 1, 2]
    assert not list(tmp_path.glob('*.pth'))


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
@pytest.mark.parametrize('clip', [None, dict(max_norm=1.0), dict(type='value', clip_value=1.0)])
def test_a_gradient_that_is_not_finite_stops_before_the_update(tmp_path, value, clip):
    wrapper = dict(optimizer=dict(type='SGD', lr=1e-3, momentum=0.9), clip_grad=clip)
    text = train_until_error(*make_runner(tmp_path, Model('gradient', value), wrapper))
    assert text.startswith(f'gradient is not finite at iteration {FAILING + 1} (epoch 1): all loss terms are finite, ')
    assert 'the gradient of second.weight, second.bias is not' in text
    assert f'images/{FAILING}.png' in text


def test_a_finite_run_equals_the_one_without_the_check_and_leaves_no_patches(tmp_path):
    states = []
    for number, options in enumerate((dict(), dict(finite_check=False))):
        torch.manual_seed(0)
        wrapper = dict(optimizer=dict(type='SGD', lr=1e-3, momentum=0.9), clip_grad=dict(max_norm=0.1))
        runner, _ = make_runner(tmp_path / str(number), Model(), wrapper, **options)
        runner.train()
        states.append(dict(runner.model.state_dict()))
        assert 'parse_losses' not in vars(runner.model)
        assert 'save_checkpoint' not in vars(runner)
        assert runner.optim_wrapper.clip_func.clip is torch.nn.utils.clip_grad_norm_
        assert 'step' not in vars(runner.optim_wrapper)
    assert_equal(*states)


def test_the_check_can_be_switched_off_and_is_there_once(tmp_path):
    runner, recorder = make_runner(tmp_path / 'off', Model('gradient'), finite_check=False)
    runner.train()
    assert recorder.ended == [0, 1, 2, 3, 4]
    assert runner.model.second.weight.isnan().all()
    runner, _ = make_runner(tmp_path / 'twice', Model(), hooks=[FiniteCheckHook(replay=True)])
    (hook,) = [hook for hook in runner.hooks if isinstance(hook, FiniteCheckHook)]
    assert hook.replay
    runner, _ = make_runner(tmp_path / 'options', Model(), finite_check=dict(replay=True))
    (hook,) = [hook for hook in runner.hooks if isinstance(hook, FiniteCheckHook)]
    assert hook.replay


@pytest.mark.parametrize(('failure', 'kind'), [('loss', 'loss'), ('detached', 'loss'), ('gradient', 'gradient')])
def test_accumulation_stops_at_the_step_itself_for_a_loss_and_at_the_update_for_a_gradient(tmp_path, failure, kind):
    wrapper = dict(optimizer=dict(type='SGD', lr=1e-3, momentum=0.9), accumulative_counts=5)
    runner, recorder = make_runner(tmp_path, Model(failure), wrapper)
    text = train_until_error(runner, recorder)
    iteration = FAILING + 1 if kind == 'loss' else 5
    assert text.startswith(f'{kind} is not finite at iteration {iteration} ')
    assert recorder.ended == list(range(iteration - 1))
    assert 'gradients are accumulated over several batches, of which this is the last' in text


def test_several_optimizers_are_all_checked(tmp_path):
    class Two(Model):
        def train_step(self, data, optim_wrapper):
            losses = self(**data)
            loss, terms = self.parse_losses(losses)
            optim_wrapper['first'].backward(losses['loss_first'])
            optim_wrapper['first'].step()
            optim_wrapper['second'].backward(losses['loss_second'])
            optim_wrapper['second'].step()
            optim_wrapper.zero_grad()
            return terms

    for failure in ('loss', 'gradient'):
        model = Two(failure)
        parts = {
            name: OptimWrapper(torch.optim.SGD(getattr(model, name).parameters(), lr=1e-3))
            for name in ('first', 'second')
        }
        runner, recorder = make_runner(tmp_path / failure, model, OptimWrapperDict(**parts))
        with pytest.raises(NonFiniteError, match=f'^{failure} is not finite at iteration {FAILING + 1} '):
            runner.train()
        assert torch.equal(model.second.weight, recorder.state[0]['second.weight'])


class Scaling(OptimWrapper):
    """Has a gradient scaler, as mmengine's AmpOptimWrapper on a GPU."""

    class Scaler:
        enabled = True

        def is_enabled(self):
            return self.enabled

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.loss_scaler = self.Scaler()

    def step(self, **kwargs):
        self._clip_grad()
        if all(p.grad.isfinite().all() for group in self.optimizer.param_groups for p in group['params']):
            self.optimizer.step(**kwargs)


def test_with_a_gradient_scaler_only_the_loss_counts(tmp_path):
    def wrapper(model):
        return Scaling(torch.optim.SGD(model.parameters(), lr=1e-3), clip_grad=dict(max_norm=1.0))

    model = Model('gradient', float('inf'))
    runner, recorder = make_runner(tmp_path / 'gradient', model, wrapper(model))
    runner.train()
    assert recorder.ended == [0, 1, 2, 3, 4]
    model = Model('detached')
    runner, recorder = make_runner(tmp_path / 'loss', model, wrapper(model))
    text = train_until_error(runner, recorder)
    assert recorder.ended == [0, 1, 2]
    assert text.startswith(f'loss is not finite at iteration {FAILING + 1} (epoch 1): loss_second = nan')
    switched_off = wrapper(model)
    assert scales_gradients(switched_off)
    switched_off.loss_scaler.enabled = False
    assert not scales_gradients(switched_off)


@pytest.fixture
def deferred(monkeypatch):
    """A device whose flags are copied to the host, and the flags that were read."""
    flags = []

    def start_copy(flag):
        copy = flag.clone()
        return lambda: flags.append(bool(copy)) or flags[-1]

    monkeypatch.setattr('reprefine.engine.finite_check.hook.flag_reader', lambda device: FlagReader(start_copy))
    return flags


@pytest.mark.parametrize('clip', [None, dict(max_norm=1.0)])
@pytest.mark.parametrize('failure', ['loss', 'gradient'])
def test_a_deferred_check_names_the_step_that_failed_before_the_next_update(tmp_path, deferred, failure, clip):
    wrapper = dict(optimizer=dict(type='SGD', lr=1e-3, momentum=0.9), clip_grad=clip)
    runner, recorder = make_runner(tmp_path, Model(failure), wrapper)
    with pytest.raises(NonFiniteError) as caught:
        runner.train()
    text = str(caught.value)
    assert text.startswith(f'{failure} is not finite at iteration {FAILING + 1} (epoch 1): ')
    assert f'images/{FAILING}.png' in text
    assert f'images/{FAILING + 1}.png' not in text
    assert ('loss_second = nan' if failure == 'loss' else 'the gradient of second.weight, second.bias is not') in text
    assert recorder.ended == [0, 1, 2, 3]  # and not 4
    assert deferred == [False, False, False, True]


def test_a_deferred_check_comes_before_a_checkpoint(tmp_path, deferred):
    class Save(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            runner.save_checkpoint(str(tmp_path), f'step_{runner.iter}.pth')

    runner, recorder = make_runner(tmp_path, Model('loss'), hooks=[Save()])
    with pytest.raises(NonFiniteError, match=f'iteration {FAILING + 1} '):
        runner.train()
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == ['step_0.pth', 'step_1.pth', 'step_2.pth']


def test_a_deferred_check_of_the_last_step_ends_the_run(tmp_path, deferred, monkeypatch):
    monkeypatch.setattr('tests.engine.finite_check.test_hook.FAILING', 4)
    runner, recorder = make_runner(tmp_path, Model('loss'))
    runner.cfg.default_hooks = None
    runner._hooks = [hook for hook in runner.hooks if type(hook).__name__ != 'SafeCheckpointHook']
    with pytest.raises(NonFiniteError, match='iteration 5 '):
        runner.train()
    assert recorder.ended == [0, 1, 2, 3, 4]


def test_a_model_without_optimizer_steps_is_checked_when_the_next_step_begins(tmp_path):
    class Idle(Model):
        def train_step(self, data, optim_wrapper):
            return self.parse_losses(self(**data))[1]

    runner, recorder = make_runner(tmp_path, Idle('loss'))
    with pytest.raises(NonFiniteError, match=rf'iteration {FAILING + 1} .*images/{FAILING}.png'):
        runner.train()
    assert recorder.ended == [0, 1, 2, 3]


def test_options_of_the_config_are_checked():
    cfg = Config(dict(default_scope='mmengine'))
    merge_options(cfg, {'finite_check.replay': True})
    assert cfg.finite_check == ConfigDict(replay=True)
    check_config(cfg)
    merge_options(cfg, {'finite_check': False})
    check_config(cfg)
    with pytest.raises(UserError, match="finite_check.reply.*did you mean 'replay'"):
        check_config(Config(dict(finite_check=dict(reply=True))))
    with pytest.raises(UserError, match="did you mean 'finite_check'"):
        check_config(Config(dict(finite_chek=False)))


def test_the_hook_can_be_named_in_a_config():
    from reprefine.registry import HOOKS

    assert HOOKS.build(dict(type='reprefine.FiniteCheckHook', replay=True)).replay
