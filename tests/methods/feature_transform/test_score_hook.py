"""Files of score statistics of real runs."""

import numpy as np
import pytest
import torch
from mmengine.registry import HOOKS
from torch.testing import assert_close

from reprefine.methods.feature_transform import ScoreStatsHook, read_run
from reprefine.methods.feature_transform.score_files import KEYS, read_block

from .toys import MOCO, build, moco_ft, runner, scalars, trained


def test_files_hold_what_the_log_holds(tmp_path):
    done = trained(tmp_path, [dict(type='reprefine.ScoreStatsHook', flush_interval=2)])
    files = sorted(path.name for path in (tmp_path / 'score_stats').iterdir())
    assert files == ['epoch_001.npz', 'epoch_002.npz', 'epoch_003.npz']
    curves, lines = read_run(tmp_path), [line for line in scalars(done) if 'loss' in line]
    assert curves.iters.tolist() == list(range(1, 10))
    assert_close(curves.epochs, np.arange(1, 10) / 3)
    assert list(curves.values) == list(KEYS)  # flushed twice an epoch: the second write keeps the order
    for key, values in curves.values.items():
        assert values.dtype == np.float32
        assert_close(values, np.array([line[key] for line in lines], np.float32), rtol=1e-4, atol=1e-4)
    assert curves.meta == dict(
        temperature=0.2,
        queue_len=24,
        feat_dim=8,
        batch_size=4,
        world_size=1,
        epoch_length=3,
        feature_transform=moco_ft().feature_transform.config,
        reduce=False,
    )


def test_resumed_files_equal_those_of_one_run(tmp_path):
    hook = dict(type='reprefine.ScoreStatsHook')
    trained(tmp_path / 'whole', [hook])
    trained(tmp_path / 'parts', [hook])
    (tmp_path / 'parts' / 'epoch_3.pth').unlink()  # epoch 3 has statistics, but no checkpoint
    done = trained(tmp_path / 'parts', [hook], resume=True, load_from=str(tmp_path / 'parts' / 'epoch_2.pth'))
    uninterrupted, parts = read_run(tmp_path / 'whole'), read_run(tmp_path / 'parts')
    assert parts.iters.tolist() == list(range(1, 10))
    for key in KEYS:
        assert np.array_equal(uninterrupted.values[key], parts.values[key]), key
    aside = tmp_path / 'parts' / 'score_stats' / f'replaced_{done.timestamp}'
    assert [path.name for path in aside.iterdir()] == ['epoch_003.npz']


def test_iteration_based_runs_write_blocks_and_resume_inside_one(tmp_path):
    hook = dict(type='reprefine.ScoreStatsHook', flush_interval=4)
    saving = dict(default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=3)))

    def loop(folder, iters, **options):
        made = runner(
            folder, moco_ft(), train_cfg=dict(by_epoch=False, max_iters=iters), custom_hooks=[hook], **options
        )
        made.register_hook(HOOKS.build(saving['default_hooks']['checkpoint']))
        made.train()

    loop(tmp_path, 8)
    assert [p.name for p in sorted((tmp_path / 'score_stats').iterdir())] == ['block_00001.npz', 'block_00002.npz']
    first = read_run(tmp_path)
    assert first.iters.tolist() == list(range(1, 9))
    assert first.epochs is None
    loop(tmp_path, 10, resume=True, load_from=str(tmp_path / 'iter_6.pth'))
    again = read_run(tmp_path)
    assert again.iters.tolist() == list(range(1, 11))
    assert np.array_equal(again.values['neg_var'][:6], first.values['neg_var'][:6])
    assert [len(read_block(p)[0]) for p in sorted((tmp_path / 'score_stats').glob('*.npz'))] == [4, 4, 2]


def test_every_second_iteration(tmp_path):
    trained(tmp_path, [dict(type='reprefine.ScoreStatsHook', interval=2)])
    assert read_run(tmp_path).iters.tolist() == [2, 4, 6, 8]


def test_plain_moco_is_warned_once_and_writes_nothing(tmp_path):
    with pytest.warns(UserWarning, match='ScoreStatsHook records nothing: MoCo returns no score') as warnings:
        trained(tmp_path, [dict(type='reprefine.ScoreStatsHook')], model=build(MOCO))
    assert sum('records nothing' in str(warning.message) for warning in warnings) == 1
    assert not (tmp_path / 'score_stats').exists()


def test_statistics_wait_for_no_device_between_flushes():
    """Nothing but tensors is kept until a flush."""
    hook = ScoreStatsHook(flush_interval=10)

    class Fake:
        iter, model = 0, torch.nn.Identity()

    outputs = {'pos_mean': torch.empty((), device='meta'), 'loss': torch.empty((), device='meta')}
    hook.after_train_iter(Fake, 0, None, outputs)  # a meta tensor has no value that could be read
    assert hook._keys == ['pos_mean']
    assert len(hook._rows) == 1


def test_unwritten_records_of_a_failed_training_are_dropped(tmp_path):
    """Its iterations are computed again."""
    hook = ScoreStatsHook()
    hook._keys, hook._iters, hook._rows = ['pos_mean'], [8, 9], [torch.zeros(1)] * 2
    made = runner(tmp_path, moco_ft(), train_cfg=dict(by_epoch=True, max_epochs=1))
    made.register_hook(hook)
    made.train()
    run = read_run(tmp_path)
    assert run.iters.tolist() == [1, 2, 3]
    assert list(run.values) == list(KEYS)
