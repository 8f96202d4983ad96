"""Joint updates of equal groups are those of mmengine's loop bit by bit; groups and checkpoints are unchanged."""

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper, OptimWrapperDict, build_optim_wrapper
from torch import nn, optim

from reprefine.engine.speed.foreach import (
    MAX_FOREACH_NUMEL,
    VERIFIED,
    join_groups,
    speed_up_optim_wrapper,
    use_joint_step,
)
from tests.helpers.run import assert_equal

SETTINGS = {
    optim.SGD: [
        dict(lr=0.1),
        dict(lr=0.1, momentum=0.9, weight_decay=0.1),
        dict(lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
        dict(lr=0.1, momentum=0.9, dampening=0.3, maximize=True),
    ],
    **{
        kind: [
            dict(lr=0.01),
            dict(lr=0.01, weight_decay=0.1, betas=(0.5, 0.9)),
            dict(lr=0.01, weight_decay=0.1, amsgrad=True),
            dict(lr=0.01, weight_decay=0.1, maximize=True),
        ]
        for kind in (optim.Adam, optim.AdamW)
    },
    optim.Adamax: [dict(lr=0.01), dict(weight_decay=0.1, maximize=True)],
    optim.RMSprop: [dict(lr=0.01), dict(weight_decay=0.1, momentum=0.9, centered=True), dict(maximize=True)],
    optim.Adadelta: [dict(), dict(weight_decay=0.1, maximize=True)],
    optim.Adagrad: [dict(lr=0.1, weight_decay=0.1, lr_decay=0.01), dict(maximize=True)],
}
SHAPES = [(7, 5), (33,), (130, 129), (1,), (), (3, 3, 3, 3), (64, 65)]


def net():
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def build(kind, settings, joint):
    """An optimiser with one group per parameter, as by mmengine's paramwise_cfg, some with other settings."""
    groups = [dict(params=[parameter]) for parameter in net()]
    groups[1]['lr'] = groups[5]['lr'] = 0.02
    groups[3]['weight_decay'] = 0.0
    optimizer = kind(groups, **settings)
    if joint:
        use_joint_step(optimizer)
    return optimizer


def train(optimizer, steps=8, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        for index, group in enumerate(optimizer.param_groups):
            group['lr'] *= 0.9
            for parameter in group['params']:
                gradient = torch.randn(parameter.shape, generator=generator) * (1 + step)
                parameter.grad = None if (step, index) == (3, 2) else gradient
        optimizer.step()


def assert_same(optimizer, other):
    assert_equal(optimizer.state_dict(), other.state_dict())
    for group, twin in zip(optimizer.param_groups, other.param_groups, strict=True):
        assert_equal([p.data for p in group['params']], [p.data for p in twin['params']])


def test_every_verified_optimiser_is_tested():
    assert SETTINGS.keys() == VERIFIED
    numbers = [torch.Size(shape).numel() for shape in SHAPES]
    assert max(numbers) > MAX_FOREACH_NUMEL
    assert sorted(numbers)[-2] < MAX_FOREACH_NUMEL


@pytest.mark.parametrize(
    ('kind', 'settings'), [(kind, settings) for kind, several in SETTINGS.items() for settings in several]
)
def test_updates_state_and_groups_equal_those_of_the_loop(kind, settings):
    loop, joint = (build(kind, settings, flag) for flag in (False, True))
    train(loop)
    train(joint)
    assert_same(loop, joint)


def test_either_form_loads_the_state_of_the_other():
    settings = dict(lr=0.01, weight_decay=0.1)
    uninterrupted = build(optim.AdamW, settings, False)
    train(uninterrupted)
    train(uninterrupted, seed=2)
    for first, second in ((False, True), (True, False)):
        start, resumed = (build(optim.AdamW, settings, flag) for flag in (first, second))
        train(start)
        resumed.load_state_dict(copy.deepcopy(start.state_dict()))
        for group, source in zip(resumed.param_groups, start.param_groups, strict=True):
            for parameter, value in zip(group['params'], source['params'], strict=True):
                parameter.data.copy_(value)
        train(resumed, seed=2)
        assert_same(uninterrupted, resumed)


def test_groups_of_equal_settings_are_joined_during_the_step(monkeypatch):
    sizes = []
    real = optim.AdamW._init_group
    monkeypatch.setattr(
        optim.AdamW, '_init_group', lambda self, group, *a: sizes.append(len(group['params'])) or real(self, group, *a)
    )
    train(build(optim.AdamW, dict(weight_decay=0.1), True), steps=1)
    # (7, 5), (), (64, 65) | (33,), (3, 3, 3, 3) | (130, 129), too large | (1,)
    assert sorted(sizes) == [1, 1, 2, 3]


def test_groups_are_restored_when_a_step_fails():
    optimizer = build(optim.SGD, dict(lr=0.1), True)
    groups = optimizer.param_groups

    def fail():
        assert len(optimizer.param_groups) < len(groups)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(fail)
    assert optimizer.param_groups is groups


@pytest.mark.parametrize(
    'settings',
    [
        *(dict(foreach=False), dict(foreach=True), dict(fused=True), dict(capturable=True)),
        *(dict(lr=torch.tensor(0.01)), dict(betas=[0.9, 0.0])),
    ],
)
def test_implementations_of_the_config_and_unhashable_settings_work(settings):
    loop, joint = (build(optim.AdamW, copy.deepcopy(settings), flag) for flag in (False, True))
    assert ('step' in vars(joint)) is ('betas' in settings)
    if 'capturable' not in settings:
        train(loop)
        train(joint)
        assert_same(loop, joint)


def test_other_optimisers_are_not_changed():
    for optimizer in (optim.NAdam(net()), optim.RAdam(net()), type('Mine', (optim.SGD,), {})(net(), lr=0.1)):
        use_joint_step(optimizer)
        assert 'step' not in vars(optimizer)


def test_hooks_of_the_optimiser_see_its_groups():
    optimizer, seen = build(optim.SGD, dict(lr=0.1), True), []
    optimizer.register_step_pre_hook(lambda self, *_: seen.append(len(self.param_groups)))
    train(optimizer, steps=1)
    assert seen == [len(SHAPES)]


def test_settings_that_only_schedulers_read_do_not_separate_groups():
    groups = [dict(params=[p], lr=0.1, initial_lr=index) for index, p in enumerate(net()[3:5])]
    (joined,) = join_groups(groups, lambda group: group['lr'])
    assert len(joined['params']) == 2
    assert joined['foreach'] is True
    assert len(groups[0]['params']) == 1


def wrapper_config(**settings):
    optimizer = dict(type='AdamW', lr=0.01, weight_decay=0.1)
    return ConfigDict(optimizer=optimizer, paramwise_cfg=dict(bias_decay_mult=0.0), **settings)


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4))


def losses(network, wrapper, steps=6):
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        loss = network(torch.randn(5, 8, generator=generator)).square().sum()
        wrapper.update_params(loss)
        yield loss.item()


@pytest.mark.parametrize('clip', [dict(max_norm=0.5), dict(type='value', clip_value=0.01), None])
def test_wrapper_trains_and_logs_as_mmengines(clip):
    results = []
    for change in (lambda wrapper: wrapper, speed_up_optim_wrapper):
        network = model()
        wrapper = change(build_optim_wrapper(network, wrapper_config(clip_grad=clip, accumulative_counts=2)))
        wrapper.message_hub = hub = MessageHub(f'{clip}')
        if clip and change is speed_up_optim_wrapper:
            wrapper.clip_func.hub = hub
        results.append((list(losses(network, wrapper)), network.state_dict(), wrapper.state_dict(), hub))
    (*stock, stock_hub), (*joint, joint_hub) = results
    assert_equal(stock, joint)
    assert list(stock_hub.log_scalars) == list(joint_hub.log_scalars)
    for key, history in stock_hub.log_scalars.items():
        assert history.data[0].tolist() == joint_hub.get_scalar(key).data[0].tolist()


def test_groups_of_a_config_become_dicts_that_schedulers_change():
    wrapper = build_optim_wrapper(model(), wrapper_config())
    assert {type(group) for group in wrapper.optimizer.param_groups} == {ConfigDict}
    speed_up_optim_wrapper(wrapper)
    assert {type(group) for group in wrapper.optimizer.param_groups} == {dict}
    assert len(wrapper.optimizer.param_groups) == 4
    wrapper.param_groups[2]['lr'] = 0.5
    assert wrapper.get_lr()['lr'] == [0.01, 0.01, 0.5, 0.01]


def test_every_wrapper_of_a_dict_is_changed():
    one = OptimWrapper(optim.SGD(model().parameters(), lr=0.1), clip_grad=dict(max_norm=1))
    two = OptimWrapper(optim.Adam(model().parameters()))
    speed_up_optim_wrapper(OptimWrapperDict(one=one, two=two))
    assert 'step' in vars(one.optimizer)
    assert 'step' in vars(two.optimizer)
    assert one.clip_func is not nn.utils.clip_grad_norm_
