"""The exact loops with the base classes of either package family, and when they validate."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch import nn

from reprefine.engine.resuming.loops import ExactEpochLoop, ExactIterLoop, _is_due, to_exact_loop
from tests.helpers.run import DIGITS, SMALL, run_train

TEXT = f"""
_base_ = {DIGITS!r}
train_cfg = dict(_delete_=True, by_epoch=False, max_iters=6, val_interval=6)
param_scheduler = None
log_processor = dict(by_epoch=False)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=4))
"""


def run_of_the_fork(loop: IterBasedTrainLoop) -> nn.Module:
    """Run as mmengine's fork does: it skips the batches before ``_iter`` by one call, or not at all."""
    loop.runner.call_hook('before_train')
    loop.runner.call_hook('before_train_epoch')
    if loop._iter and not loop.fast_forward_on_resume:
        loop.dataloader_iterator.skip_iter(loop._iter)
    while loop._iter < loop._max_iters:
        loop.runner.model.train()
        loop.run_iter(next(loop.dataloader_iterator))
    loop.runner.call_hook('after_train_epoch')
    loop.runner.call_hook('after_train')
    return loop.runner.model


@pytest.mark.parametrize('fast_forward', [False, True])
def test_loop_of_the_fork_continues_from_the_same_batch(tmp_path, monkeypatch, fast_forward):
    (tmp_path / 'config.py').write_text(TEXT)
    uninterrupted, resumed = tmp_path / 'uninterrupted', tmp_path / 'resumed'
    options = [option for option in SMALL if 'max_epochs' not in option]
    assert run_train(str(tmp_path / 'config.py'), '--work-dir', str(uninterrupted), *options) == 0
    resumed.mkdir()
    for file in uninterrupted.glob('iter_4.pth*'):
        shutil.copy(file, resumed)
    monkeypatch.setattr(IterBasedTrainLoop, 'fast_forward_on_resume', fast_forward, raising=False)
    monkeypatch.setattr(IterBasedTrainLoop, 'run', run_of_the_fork)
    assert run_train(str(tmp_path / 'config.py'), '--work-dir', str(resumed), '--resume', *options) == 0
    expected, found = (
        torch.load(run / 'iter_6.pth', weights_only=True)['state_dict'] for run in (uninterrupted, resumed)
    )
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


@pytest.mark.parametrize(
    ('cfg', 'kind'),
    [
        (dict(by_epoch=True), ExactEpochLoop),
        (dict(by_epoch=False), ExactIterLoop),
        (dict(type='EpochBasedTrainLoop'), ExactEpochLoop),
        (dict(type='IterBasedTrainLoop', _scope_='mmengine'), ExactIterLoop),
        (dict(type=IterBasedTrainLoop), ExactIterLoop),
    ],
)
def test_configs_of_mmengines_loops_build_exact_loops(cfg, kind):
    before = dict(cfg)
    made = to_exact_loop(cfg | dict(max_iters=3))
    assert made == {'type': kind, 'max_iters': 3} | {key: cfg[key] for key in cfg.keys() & {'_scope_'}}
    assert cfg == before


def test_other_loops_are_not_changed():
    class Own(EpochBasedTrainLoop):
        pass

    loop = object.__new__(EpochBasedTrainLoop)
    # mmengine refuses the last two.
    for given in (dict(type=Own), loop, dict(type='EpochBasedTrainLoop', by_epoch=True), dict(max_epochs=1)):
        assert to_exact_loop(given) is given
    assert type(loop) is EpochBasedTrainLoop


@pytest.mark.parametrize(
    ('begin', 'expected'), [(1, [2, 4, 6, 8, 9]), (4, [4, 6, 8, 9]), (5, [6, 8, 9]), (10, [])], ids=str
)
def test_a_validation_is_due_when_mmengine_would_run_it(begin, expected):
    loop = SimpleNamespace(runner=SimpleNamespace(val_loop=object()), val_begin=begin, val_interval=2)
    assert [count for count in range(1, 10) if _is_due(loop, count, 9)] == expected
    loop.runner.val_loop = None
    assert not any(_is_due(loop, count, 9) for count in range(1, 10))
