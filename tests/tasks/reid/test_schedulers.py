import math
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from torch import nn

from reprefine.engine.runner import Runner
from reprefine.tasks.reid.schedulers import warmup_cosine

SCHEDULES = Path(__file__).parents[3] / 'configs/_base_/schedules'


def start(schedule):
    """Optimizer and schedulers of a config, for a model of one group of parameters each of weights and biases."""
    cfg = Config.fromfile(SCHEDULES / schedule)
    wrapper = build_optim_wrapper(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), cfg.optim_wrapper)
    configs = cfg.param_scheduler if isinstance(cfg.param_scheduler, list) else [cfg.param_scheduler]
    return wrapper, [PARAM_SCHEDULERS.build(config | dict(optimizer=wrapper)) for config in configs]


def rates_of(wrapper, schedulers, epochs):
    """Learning rate of each group in each epoch."""
    rates = []
    for _ in range(epochs):
        rates.append([group['lr'] for group in wrapper.optimizer.param_groups])
        wrapper.step()
        for scheduler in schedulers:
            scheduler.step()
    return torch.tensor(rates, dtype=torch.float64)


def published(epoch, peak):
    """The formula for a base learning rate of 4e-4 and 120 epochs."""
    if epoch < 20:
        return 4e-6 + (peak - 4e-6) * epoch / 20
    return 8e-7 + (peak - 8e-7) * (1 + math.cos(math.pi * epoch / 120)) / 2


def test_transreid_schedule_follows_the_formula_in_every_epoch():
    rates = rates_of(*start('reid_sgd_120e.py'), 121)
    peaks = [4e-4, 8e-4, 4e-4, 8e-4]  # weights and biases of the Linear and the LayerNorm
    formula = [[published(epoch, peak) for peak in peaks] for epoch in range(121)]
    assert torch.allclose(rates, torch.tensor(formula, dtype=torch.float64), rtol=1e-12, atol=0)


def test_under_auto_scale_lr_the_whole_schedule_is_scaled():
    """Start and floor too, which are relative to the optimizer's learning rate and not to a group's."""
    parts = []
    for scale in (1, 2):
        cfg = Config.fromfile(SCHEDULES / 'reid_sgd_120e.py')
        wrapper = build_optim_wrapper(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), cfg.optim_wrapper)
        runner = Runner.__new__(Runner)
        runner._train_dataloader, runner._world_size, runner.param_schedulers = dict(batch_size=64 * scale), 1, None
        runner.logger = MMLogger.get_instance('test')
        runner.scale_lr(wrapper, dict(enable=True, base_batch_size=64))
        scheduler = PARAM_SCHEDULERS.build(cfg.param_scheduler | dict(optimizer=wrapper))
        assert wrapper.get_lr()['base_lr'] == [pytest.approx(scale * 4e-6)]
        parts.append(rates_of(wrapper, [scheduler], 121))
    assert torch.allclose(parts[1], 2 * parts[0], rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ('epoch', 'value'), [(0, 0.01), (10, 0.505), (19, 0.9505), (20, 0.93314), (60, 0.501), (120, 0.002), (150, 0.002)]
)
def test_spot_values(epoch, value):
    assert warmup_cosine(epoch, 1.0, 0.01, 0.002, 20, 120) == pytest.approx(value, abs=1e-5)


def test_resumed_schedule_continues():
    whole = rates_of(*start('reid_sgd_120e.py'), 60)
    wrapper, (scheduler,) = start('reid_sgd_120e.py')
    rates_of(wrapper, [scheduler], 30)
    resumed, (continued,) = start('reid_sgd_120e.py')
    continued.load_state_dict(scheduler.state_dict())
    resumed.load_state_dict(wrapper.state_dict())
    assert torch.equal(rates_of(resumed, [continued], 30), whole[30:])


def test_strong_baseline_schedule():
    rates = rates_of(*start('reid_adam_120e.py'), 120)[:, 0]
    warmup = [3.5e-4 * (0.01 + 0.99 * epoch / 10) for epoch in range(10)]
    expected = torch.tensor(warmup + [3.5e-4] * 30 + [3.5e-5] * 30 + [3.5e-6] * 50, dtype=torch.float64)
    assert torch.allclose(rates, expected, rtol=1e-9, atol=0)
