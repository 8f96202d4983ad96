"""Averages with foreach updates equal mmengine's loop bit by bit; state dict and base classes are unchanged."""

import copy

import pytest
import torch
from mmdet.models.layers import ExpMomentumEMA
from mmengine.hooks import EMAHook
from mmengine.logging import MessageHub
from mmengine.model import ExponentialMovingAverage, MomentumAnnealingEMA, StochasticWeightAverage
from mmpose.engine.hooks import ExpMomentumEMA as PoseEMA
from mmpretrain.models.utils import CosineEMA
from torch import nn

from reprefine.engine.runner import Runner
from reprefine.engine.speed.averaging import VERIFIED, use_foreach_averages
from tests.helpers.run import assert_equal

KINDS = [ExponentialMovingAverage, MomentumAnnealingEMA, StochasticWeightAverage, ExpMomentumEMA, PoseEMA, CosineEMA]


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.Linear(9, 2))


def change(source, step):
    generator = torch.Generator().manual_seed(step)
    for parameter in source.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator))
    source(torch.randn(8, 6, generator=generator))  # running statistics and their counter


def update(average, source, steps=7):
    for step in range(steps):
        change(source, step)
        average.update_parameters(source)
    return average.state_dict()


def test_every_verified_average_is_tested():
    assert {f'{kind.__module__}.{kind.__qualname__}' for kind in KINDS} == VERIFIED


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('settings', [dict(), dict(update_buffers=True), dict(interval=3)])
def test_average_equals_that_of_the_loop(kind, settings, monkeypatch):
    MessageHub.get_current_instance().update_info('max_iters', 9)
    loop = update(kind(model(), **settings), model())
    average = use_foreach_averages(kind(model(), **settings))
    monkeypatch.setattr(kind, 'update_parameters', None)  # the loop is not used
    assert_equal(loop, update(average, model()))
    assert isinstance(average, kind)


def test_averages_within_a_model_and_their_copies_use_foreach():
    parent = nn.ModuleDict(dict(encoder=model(), momentum=ExponentialMovingAverage(model())))
    kind = type(use_foreach_averages(parent)['momentum'])
    assert kind is not ExponentialMovingAverage
    assert type(use_foreach_averages(parent)['momentum']) is kind
    assert type(copy.deepcopy(parent)['momentum']) is kind


def test_number_of_updates_is_read_only_after_other_code_changed_it(monkeypatch):
    reads = []
    real = torch.Tensor.__int__
    average, source = use_foreach_averages(ExponentialMovingAverage(model(), interval=2)), model()
    monkeypatch.setattr(torch.Tensor, '__int__', lambda tensor: reads.append(1) or real(tensor))
    update(average, source, 5)
    assert len(reads) == 1
    average.load_state_dict({**average.state_dict(), 'steps': torch.tensor(0)})
    update(average, source, 1)
    assert_equal(dict(average.module.state_dict()), dict(source.state_dict()))
    twin = copy.deepcopy(average)
    average.double()
    assert [one._steps_taken() for one in (average, twin)] == [1, 1]


def test_average_with_its_own_formula_is_not_changed():
    class Mine(ExponentialMovingAverage):
        pass

    average = Mine(model())
    use_foreach_averages(average)
    assert type(average) is Mine


def test_average_on_another_device_uses_the_loop():
    average = use_foreach_averages(ExponentialMovingAverage(model(), device=torch.device('meta')))
    update(average, model(), steps=0)
    average.steps = torch.tensor(0)
    average.update_parameters(model())
    assert average.steps == 1


@pytest.mark.parametrize('name', ['ExponentialMovingAverage', 'mmengine.MomentumAnnealingEMA', 'mmdet.ExpMomentumEMA'])
def test_the_average_of_a_hook_is_updated_by_foreach_calls(name, tmp_path):
    hook = EMAHook(name, momentum=0.125, update_buffers=True)
    runner = Runner(model(), str(tmp_path), custom_hooks=[hook], experiment_name=f'average-{name}')
    runner.call_hook('before_run')
    runner.load_or_resume()
    assert type(hook.ema_model).__mro__[1].__name__ == '_ForeachUpdate'
    assert type(hook.ema_model).__name__ == name.split('.')[-1]
    assert (hook.ema_model.momentum, hook.ema_model.update_buffers) == (0.125, True)
