"""A run with our Runner equals one with mmengine's bit for bit, and reads nothing from the device between two logs."""

import sys
from collections import Counter

import pytest
import torch

from reprefine.engine.cli.launch import build_runner, load_config, set_loader_defaults
from reprefine.engine.cost.stock import build_stock
from tests.helpers.run import DIGITS, assert_equal

PLAIN = [dict(type='PackInputs')]  # draws nothing
OPTIONS = {
    'train_dataloader.dataset.indices': 96,
    'train_dataloader.dataset.pipeline': PLAIN,
    'train_dataloader.batch_size': 8,
    'val_dataloader.dataset.indices': 32,
    'train_cfg.max_epochs': 2,
    'default_hooks.logger.interval': 5,
    'optim_wrapper.accumulative_counts': 2,
}
EMA = [dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=0.01)]


def config(folder, name, hooks=EMA, **options):
    cfg = load_config(DIGITS, {**OPTIONS, **options})
    set_loader_defaults(cfg, no_pin_memory=False)
    cfg.custom_hooks = hooks
    cfg.work_dir, cfg.experiment_name = str(folder), f'{folder.parent.name}-{name}'
    cfg.visualizer.name = cfg.experiment_name
    return cfg


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory):
    """The last checkpoints of a run with each Runner."""
    folder, loaded = tmp_path_factory.mktemp('runs'), []
    for name, build in (('stock', build_stock), ('own', build_runner)):
        build(config(folder / name, name)).train()
        loaded.append(torch.load(folder / name / 'epoch_2.pth', weights_only=True))
    return loaded


@pytest.mark.parametrize('part', ['state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers'])
def test_weights_averages_optimiser_and_schedulers_are_equal(checkpoints, part):
    stock, own = checkpoints
    assert len(stock[part])
    assert_equal(stock[part], own[part])


def test_histories_are_equal(checkpoints):
    stock, own = (checkpoint['message_hub']['log_scalars'] for checkpoint in checkpoints)
    assert list(stock) == list(own)
    assert {'train/loss', 'train/grad_norm', 'train/lr', 'train/base_lr', 'val/accuracy/top1'} <= stock.keys()
    for key in stock:
        assert_equal(*(history[key].data[1].tolist() for history in (stock, own)))
        if not key.endswith('time'):
            assert_equal(*(history[key].data[0].tolist() for history in (stock, own)))
    assert len(stock['train/loss'].data[0]) == 24


def test_either_continues_the_run_of_the_other(checkpoints, tmp_path):
    results = []
    for name, build, checkpoint in zip(('own', 'stock'), (build_runner, build_stock), checkpoints, strict=True):
        torch.save(checkpoint, tmp_path / f'{name}.pth')
        cfg = config(tmp_path / name, name, **{'train_cfg.max_epochs': 3})
        cfg.load_from, cfg.resume = str(tmp_path / f'{name}.pth'), True
        build(cfg).train()
        results.append(torch.load(tmp_path / name / 'epoch_3.pth', weights_only=True))
    for part in ('state_dict', 'ema_state_dict', 'optimizer'):
        assert_equal(*(result[part] for result in results))


READS = ('item', '__float__', '__int__', '__bool__', '__index__', 'tolist', 'cpu', 'numpy')


class Reads:
    """Counts reads of tensor values by iteration, except in torch itself, whose optimisers read values on the CPU."""

    def __init__(self, monkeypatch, runner):
        self.runner, self.counts = runner, Counter()
        for name in READS:
            monkeypatch.setattr(torch.Tensor, name, self.counting(name, getattr(torch.Tensor, name)))

    def counting(self, name, real):
        def read(tensor, *args, **kwargs):
            if '/torch/' not in sys._getframe(1).f_code.co_filename:
                self.counts[self.runner.iter, name] += 1
            return real(tensor, *args, **kwargs)

        return read


@pytest.mark.parametrize('own', [False, True])
def test_nothing_is_read_between_logs(tmp_path, monkeypatch, own):
    name = f'reads-{own}'
    no_val = {'val_cfg': None, 'val_dataloader': None, 'val_evaluator': None}
    options = {'optim_wrapper.accumulative_counts': 1, 'train_cfg.max_epochs': 1}
    cfg = config(tmp_path / name, name, [], **options)
    # The check of finite values reads a flag on the CPU; on a GPU it is copied and read one step later.
    cfg.merge_from_dict({**no_val, 'finite_check': False})
    runner = (build_runner if own else build_stock)(cfg)
    reads = Reads(monkeypatch, runner)
    runner.train()
    between = [count for (iteration, _), count in reads.counts.items() if iteration in (1, 2, 3, 5, 6, 7, 8)]
    assert reads.counts[4, 'tolist'] == (1 if own else 0)
    assert sum(between) == (0 if own else 7 * 2)  # the loss and the norm of the gradient
