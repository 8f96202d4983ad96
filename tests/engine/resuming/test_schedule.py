"""Resuming with another schedule or other optimiser settings is refused, or follows the config with reset_schedule."""

import re

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import nn
from torch.utils.data import DataLoader

from reprefine.engine.errors import UserError
from reprefine.engine.resuming.settings import group_settings, plain
from reprefine.engine.runner import Runner
from tests.helpers.run import DIGITS, SMALL, run_train

SGD = dict(type='SGD', lr=0.1, momentum=0.9)
WARMUP = dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=3)
COSINE = dict(type='CosineAnnealingLR', eta_min=0.01, by_epoch=True)
SCHEDULES = {
    'cosine': [COSINE],
    'cosine by iteration': [dict(COSINE, convert_to_iter_based=True)],
    'warm-up and cosine': [WARMUP, COSINE],
    'steps': [dict(type='MultiStepLR', milestones=[1, 3], by_epoch=True)],
    'one cycle': [dict(type='OneCycleLR', eta_max=0.3, total_steps=16, by_epoch=False)],
    'none': None,
}


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, inputs, mode='loss'):
        return dict(loss=self.layer(inputs).square().mean())


class Rates(Hook):
    """Records learning rate and momentum of each iteration."""

    def __init__(self):
        self.used = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        wrapper = runner.optim_wrapper
        wrapper = wrapper['other'] if isinstance(wrapper, OptimWrapperDict) else wrapper
        group = wrapper.param_groups[0]
        self.used[runner.iter] = group['lr'], group.get('momentum')


class TwoPartModel(Model):
    """Two layers with one optimiser each."""

    def __init__(self):
        super().__init__()
        self.other = nn.Linear(1, 1)

    def wrappers(self, rate):
        """Return their optimisers, the second with learning rate ``rate``."""
        parts = dict(layer=(self.layer, 0.1), other=(self.other, rate))
        return OptimWrapperDict(
            **{name: OptimWrapper(torch.optim.SGD(part.parameters(), lr)) for name, (part, lr) in parts.items()}
        )

    def train_step(self, data, optim_wrapper):
        for name in ('layer', 'other'):
            optim_wrapper[name].update_params(getattr(self, name)(data['inputs']).square().mean())
        return {}


def train(folder, epochs=2, schedule=(COSINE,), optim_wrapper=None, resume=None, hooks=(), model=None, **cfg):
    """Train for four iterations per epoch; return learning rate and momentum of each."""
    data = DataLoader(torch.ones(4, 1), batch_size=1, collate_fn=lambda items: dict(inputs=torch.stack(items)))
    rates = Rates()
    Runner(
        model or Model(),
        str(folder),
        train_dataloader=data,
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=optim_wrapper or dict(optimizer=SGD),
        param_scheduler=None if schedule is None else [dict(one) for one in schedule],
        custom_hooks=[rates, *hooks],
        load_from=resume and str(resume),
        resume=resume is not None,
        experiment_name=f'{folder.parent.name}_{folder.name}',
        cfg=cfg,
    ).train()
    return rates.used


def as_mmengine_saves(checkpoint, target):
    """Write the checkpoint without the entry that mmengine's own Runner does not save."""
    content = torch.load(checkpoint, weights_only=True)
    del content['schedule']
    torch.save(content, target)
    return target


@pytest.mark.parametrize('name', SCHEDULES)
def test_the_same_schedule_continues(name, tmp_path):
    uninterrupted = train(tmp_path / 'uninterrupted', schedule=SCHEDULES[name])
    rest = train(tmp_path / 'rest', schedule=SCHEDULES[name], resume=tmp_path / 'uninterrupted/epoch_1.pth')
    assert rest == {i: uninterrupted[i] for i in range(4, 8)}
    stock = as_mmengine_saves(tmp_path / 'uninterrupted/epoch_1.pth', tmp_path / 'stock.pth')
    assert train(tmp_path / 'from stock', schedule=SCHEDULES[name], resume=stock) == rest


@pytest.mark.parametrize('recorded', [True, False])
def test_a_longer_cosine_is_refused(recorded, tmp_path):
    train(tmp_path / 'a')
    checkpoint = tmp_path / 'a/epoch_2.pth'
    if not recorded:
        checkpoint = as_mmengine_saves(checkpoint, tmp_path / 'stock.pth')
    with pytest.raises(UserError, match=r'T_max is 2 in the checkpoint and 4 in the config.*--reset-schedule'):
        train(tmp_path / 'b', epochs=4, resume=checkpoint)
    assert not list(tmp_path.glob('b/*.pth'))


@pytest.mark.parametrize('new', SCHEDULES)
@pytest.mark.parametrize('stop', ['epoch_2.pth', 'iter_6.pth'])
def test_a_reset_schedule_has_the_state_that_it_would_have_reached(new, stop, tmp_path):
    wrapper = dict(optimizer=dict(SGD, lr=0.2, momentum=0.8))
    train(tmp_path / 'a', hooks=[dict(type='CheckpointHook', by_epoch=False, interval=6)])
    expected = train(tmp_path / 'expected', epochs=4, schedule=SCHEDULES[new], optim_wrapper=wrapper)
    options = dict(epochs=4, schedule=SCHEDULES[new], optim_wrapper=wrapper, reset_schedule=True)
    done = train(tmp_path / 'b', resume=tmp_path / 'a' / stop, **options)
    first = 8 if stop == 'epoch_2.pth' else 6
    assert done == {i: expected[i] for i in range(first, 16)}
    # It is the schedule of that run from then on.
    del options['reset_schedule']
    again = train(tmp_path / 'c', resume=tmp_path / 'b/epoch_3.pth', **options)
    assert again == {i: expected[i] for i in range(12, 16)}


@pytest.mark.parametrize(
    ('optimizer', 'message'),
    [
        (dict(SGD, lr=0.2), 'optim_wrapper.optimizer.lr is 0.1 in the checkpoint and 0.2 in the config'),
        (dict(SGD, weight_decay=0.5), 'optim_wrapper.optimizer.weight_decay is 0 in the checkpoint and 0.5 in'),
        (dict(SGD, momentum=0.5), 'optim_wrapper.optimizer.momentum is 0.9 in the checkpoint and 0.5 in'),
        (dict(type='AdamW', lr=0.1), r'optim_wrapper.optimizer.type is (SGD|another) in the checkpoint and AdamW in'),
    ],
)
@pytest.mark.parametrize('schedule', [[COSINE], None])
def test_other_settings_of_the_optimizer_are_refused(optimizer, message, schedule, tmp_path):
    train(tmp_path / 'a', schedule=schedule)
    stock = as_mmengine_saves(tmp_path / 'a/epoch_1.pth', tmp_path / 'stock.pth')
    for checkpoint in (tmp_path / 'a/epoch_1.pth', stock):
        with pytest.raises(UserError, match=message):
            train(tmp_path / 'b', schedule=schedule, optim_wrapper=dict(optimizer=optimizer), resume=checkpoint)


@pytest.mark.parametrize(
    'change',
    [
        dict(optimizer=dict(type='AdamW', lr=0.1)),
        dict(optimizer=SGD, paramwise_cfg=dict(bias_lr_mult=2.0)),
    ],
)
def test_another_optimizer_is_refused_also_with_reset_schedule(change, tmp_path):
    train(tmp_path / 'a')
    with pytest.raises(UserError, match='does not fit another.*start another run with load_from'):
        train(tmp_path / 'b', optim_wrapper=change, resume=tmp_path / 'a/epoch_1.pth', reset_schedule=True)


def test_groups_that_differ_are_named_by_their_index(tmp_path):
    one, other = (dict(optimizer=SGD, paramwise_cfg=dict(bias_lr_mult=factor)) for factor in (2.0, 3.0))
    train(tmp_path / 'a', optim_wrapper=one)
    stock = as_mmengine_saves(tmp_path / 'a/epoch_1.pth', tmp_path / 'stock.pth')
    for checkpoint in (tmp_path / 'a/epoch_1.pth', stock):
        with pytest.raises(UserError, match=r'optim_wrapper.optimizer.lr\[1\] is 0.2 in the checkpoint and 0.3'):
            train(tmp_path / 'b', optim_wrapper=other, resume=checkpoint)


def test_several_optimizers(tmp_path):
    def train_parts(folder, rate, **options):
        model = TwoPartModel()
        return train(folder, model=model, optim_wrapper=model.wrappers(rate), **options)

    train_parts(tmp_path / 'a', 0.1)
    uninterrupted = train_parts(tmp_path / 'uninterrupted', 0.2)
    stock = as_mmengine_saves(tmp_path / 'a/epoch_1.pth', tmp_path / 'stock.pth')
    for checkpoint in (tmp_path / 'a/epoch_1.pth', stock):
        with pytest.raises(UserError, match='optim_wrapper.other.optimizer.lr is 0.1 in the checkpoint and 0.2 in'):
            train_parts(tmp_path / 'b', 0.2, resume=checkpoint)
    rest = train_parts(tmp_path / 'c', 0.2, resume=tmp_path / 'a/epoch_1.pth', reset_schedule=True)
    assert rest == {i: uninterrupted[i] for i in range(4, 8)}


def test_added_removed_and_changed_schedulers_are_differences(tmp_path):
    train(tmp_path / 'a')
    step = dict(type='StepLR', step_size=1, by_epoch=True)
    for schedule, message in [
        (None, r'len\(param_scheduler\) is 1 in the checkpoint and 0 in the config'),
        ([WARMUP, COSINE], r'len\(param_scheduler\) is 1 in the checkpoint and 2 in the config'),
        ([step], 'param_scheduler.0.type is CosineAnnealingLR in the checkpoint and StepLR in the config'),
    ]:
        with pytest.raises(UserError, match=message):
            train(tmp_path / 'b', schedule=schedule, resume=tmp_path / 'a/epoch_1.pth')


def test_more_epochs_at_a_constant_rate_continue(tmp_path, capsys):
    train(tmp_path / 'a', schedule=[WARMUP])
    rates = train(tmp_path / 'b', epochs=3, schedule=[WARMUP], resume=tmp_path / 'a/epoch_2.pth')
    assert rates == dict.fromkeys(range(8, 12), (0.1, 0.9))
    train(tmp_path / 'c', epochs=3, schedule=None)
    rates = train(tmp_path / 'd', epochs=4, schedule=None, resume=tmp_path / 'c/epoch_3.pth')
    assert rates == dict.fromkeys(range(12, 16), (0.1, 0.9))


def test_more_epochs_beyond_the_end_of_the_schedule_warn(tmp_path, capsys):
    cosine = dict(COSINE, T_max=2, end=2)
    train(tmp_path / 'a', schedule=[cosine])
    rates = train(tmp_path / 'b', epochs=3, schedule=[cosine], resume=tmp_path / 'a/epoch_2.pth')
    assert len(set(rates.values())) == 1
    message = 'train_cfg.max_epochs is 2 in the checkpoint and 3 in the config, but the schedulers end before'
    assert message in capsys.readouterr().out


def test_another_accumulative_counts_warns(tmp_path, capsys):
    train(tmp_path / 'a')
    wrapper = dict(optimizer=SGD, accumulative_counts=2)
    train(tmp_path / 'b', optim_wrapper=wrapper, resume=tmp_path / 'a/epoch_1.pth')
    message = 'not exactly: optim_wrapper.accumulative_counts is 1 in the checkpoint and 2 in the config'
    assert message in capsys.readouterr().out


def test_a_checkpoint_with_an_average_needs_an_ema_hook(tmp_path):
    # mmengine saves the average as state_dict: training would continue from it with the moments of the other weights.
    train(tmp_path / 'a', hooks=[dict(type='EMAHook')])
    with pytest.raises(UserError, match='holds an average of the weights, but the config has no EMAHook'):
        train(tmp_path / 'b', resume=tmp_path / 'a/epoch_1.pth')


def test_a_checkpoint_without_schedulers_is_refused(tmp_path):
    bare = dict(type='CheckpointHook', interval=1, save_param_scheduler=False, filename_tmpl='bare_{}.pth')
    train(tmp_path / 'a', hooks=[bare])
    with pytest.raises(UserError, match='param_scheduler is not saved in the checkpoint and given in the config'):
        train(tmp_path / 'b', resume=tmp_path / 'a/bare_1.pth')
    uninterrupted = train(tmp_path / 'uninterrupted')
    rest = train(tmp_path / 'c', resume=tmp_path / 'a/bare_1.pth', reset_schedule=True)
    assert rest == {i: uninterrupted[i] for i in range(4, 8)}


def test_no_warning_about_the_order_of_steps(tmp_path, recwarn):
    train(tmp_path)
    assert not [warning for warning in recwarn if 'optimizer.step()' in str(warning.message)]


def test_settings_are_plain_data():
    groups = [dict(params=[1], lr=torch.tensor(0.5), initial_lr=1.0, betas=(0.9, 0.99), foreach=True), dict(lr=2.0)]
    groups[1] |= dict(initial_lr=2.0, betas=(0.9, 0.99), params=[])
    assert group_settings('optim_wrapper', groups) == {
        'len(optim_wrapper.param_groups)': 2,
        'optim_wrapper.optimizer.lr': [1.0, 2.0],
        'optim_wrapper.optimizer.betas': [0.9, 0.99],
    }
    assert plain({'a': (1, torch.tensor([2]), print)}) == {'a': [1, [2], 'builtin_function_or_method']}


def test_the_tool_has_the_option_reset_schedule(tmp_path, capsys):
    work_dir = ('--work-dir', str(tmp_path))
    assert run_train(DIGITS, *work_dir, *SMALL) == 0
    longer = (*SMALL, 'train_cfg.max_epochs=3', 'param_scheduler.1.end=40')
    assert run_train(DIGITS, *work_dir, '--resume', *longer) == 1
    assert re.search(r'param_scheduler.1.T_max is \d+ in the checkpoint and \d+ in the config', capsys.readouterr().err)
    assert run_train(DIGITS, *work_dir, '--resume', '--reset-schedule', *longer) == 0
    assert (tmp_path / 'epoch_3.pth').is_file()
