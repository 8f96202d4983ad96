"""Schedule, statistics files and nearest neighbours during real runs."""

import numpy as np
import pytest
import torch
from mmengine.registry import HOOKS
from mmpretrain.structures import DataSample
from torch.testing import assert_close

from reprefine.engine.errors import UserError
from reprefine.methods.feature_transform import FTScheduleHook, KNNMonitorHook, ScoreStatsHook, knn, knn_top1, read_run
from reprefine.methods.feature_transform.knn import best_of, extract, find_neighbours, knn_votes, nearest
from reprefine.methods.feature_transform.score_files import KEYS, read_block

from .toys import MOCO, build, loader, moco_ft, runner, scalars, unit

SEEDED = dict(type='reprefine.EpochSeedHook')


def run(folder, hooks=(), model=None, **options):
    """Train and return the Runner."""
    result = runner(folder, model or moco_ft(), custom_hooks=[SEEDED, *hooks], **options)
    result.train()
    return result


def losses(runner_):
    return [line['loss'] for line in scalars(runner_) if 'loss' in line]


def test_transform_starts_and_ends_with_its_epochs(tmp_path):
    plain = losses(run(tmp_path / 'plain', model=build(MOCO)))
    late = losses(run(tmp_path / 'late', [dict(type='reprefine.FTScheduleHook', start_epoch=1)]))
    short = losses(run(tmp_path / 'short', [dict(type='reprefine.FTScheduleHook', start_epoch=1, end_epoch=2)]))
    assert_close(late[:3], plain[:3], rtol=0, atol=1e-5)
    assert abs(late[3] - plain[3]) > 1e-3
    assert late[:6] == short[:6]
    assert late[6] != short[6]


def test_schedule_holds_after_resuming(tmp_path):
    hook = dict(type='reprefine.FTScheduleHook', start_epoch=1)
    whole = run(tmp_path / 'whole', [hook])
    run(tmp_path / 'parts', [hook], train_cfg=dict(by_epoch=True, max_epochs=2))
    resumed = run(tmp_path / 'parts', [hook], resume=True)
    assert resumed.model.feature_transform.enabled
    assert losses(resumed)[-3:] == losses(whole)[6:]
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key


def test_schedule_without_an_epoch_or_a_transform_is_an_error(tmp_path):
    for bad in (dict(start_epoch=-1), dict(start_epoch=3, end_epoch=3)):
        with pytest.raises(UserError, match='no epoch has the transform'):
            FTScheduleHook(**bad)
    with pytest.raises(UserError, match='MoCo has no feature_transform; use reprefine.MoCoFT'):
        run(tmp_path, [dict(type='reprefine.FTScheduleHook')], model=build(MOCO))
    with pytest.raises(UserError, match='counts epochs: set train_cfg.by_epoch=True'):
        run(tmp_path, [dict(type='reprefine.FTScheduleHook')], train_cfg=dict(by_epoch=False, max_iters=2))


def test_files_hold_what_the_log_holds(tmp_path):
    done = run(tmp_path, [dict(type='reprefine.ScoreStatsHook', flush_interval=2)])
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
    run(tmp_path / 'whole', [hook])
    run(tmp_path / 'parts', [hook])
    (tmp_path / 'parts' / 'epoch_3.pth').unlink()  # epoch 3 has statistics, but no checkpoint
    done = run(tmp_path / 'parts', [hook], resume=True, load_from=str(tmp_path / 'parts' / 'epoch_2.pth'))
    whole, parts = read_run(tmp_path / 'whole'), read_run(tmp_path / 'parts')
    assert parts.iters.tolist() == list(range(1, 10))
    for key in KEYS:
        assert np.array_equal(whole.values[key], parts.values[key]), key
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
    run(tmp_path, [dict(type='reprefine.ScoreStatsHook', interval=2)])
    assert read_run(tmp_path).iters.tolist() == [2, 4, 6, 8]


def test_plain_moco_is_warned_once_and_writes_nothing(tmp_path):
    with pytest.warns(UserWarning, match='ScoreStatsHook records nothing: MoCo returns no score') as warnings:
        run(tmp_path, [dict(type='reprefine.ScoreStatsHook')], model=build(MOCO))
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


def test_what_a_failed_training_left_unwritten_is_not_written_by_the_next(tmp_path):
    """Its iterations are computed again."""
    hook = ScoreStatsHook()
    hook._keys, hook._iters, hook._rows = ['pos_mean'], [8, 9], [torch.zeros(1)] * 2
    made = runner(tmp_path, moco_ft(), train_cfg=dict(by_epoch=True, max_epochs=1))
    made.register_hook(hook)
    made.train()
    run = read_run(tmp_path)
    assert run.iters.tolist() == [1, 2, 3]
    assert list(run.values) == list(KEYS)


@pytest.mark.parametrize('k', [1, 3, 50])
def test_votes_are_the_weighted_neighbours(k):
    query, bank = unit(4, 6, seed=1), unit(20, 6, seed=2)
    labels = torch.arange(20) % 3
    expected = torch.zeros(4, 3, dtype=torch.float64)
    for row, q in enumerate(query):
        similarity = [(float(q @ b), int(label)) for b, label in zip(bank, labels, strict=True)]
        for s, label in sorted(similarity, reverse=True)[:k]:
            expected[row, label] += np.exp(s / 0.07)
    neighbours = nearest(query, bank, labels, k, chunk=3)
    votes = knn_votes(neighbours, 3, 0.07)
    assert_close(votes / votes.sum(1, keepdim=True), expected / expected.sum(1, keepdim=True), rtol=1e-9, atol=1e-12)
    truth = expected.argmax(1)
    truth[0] = (truth[0] + 1) % 3
    assert knn_top1(neighbours, truth, 0.07) == 75
    parts = [nearest(query, bank[rows], labels[rows], k) for rows in (slice(11), slice(11, 12), slice(12, 20))]
    assert_close(tuple(best_of(parts, k)), tuple(neighbours))


def test_neighbour_votes_agree_with_scikit_learn():
    from sklearn.neighbors import KNeighborsClassifier

    query, bank = unit(50, 6, seed=1), unit(200, 6, seed=2)
    labels = torch.arange(200) % 4
    classifier = KNeighborsClassifier(20, metric='cosine', weights=lambda d: np.exp((1 - d) / 0.07))
    expected = classifier.fit(bank.numpy(), labels.numpy()).predict(query.numpy())
    assert knn_votes(nearest(query, bank, labels, 20), 4, 0.07).argmax(1).tolist() == expected.tolist()


def test_features_are_pooled_unit_vectors_in_order():
    model = moco_ft().eval()
    features, labels = extract(model, loader(10, two_views=False))
    assert labels.tolist() == [i % 3 for i in range(10)]
    image = loader(10, two_views=False).dataset[7]['inputs'][None]
    expected = model.backbone(image)[-1].mean(dim=(2, 3))[0]
    assert_close(features[7], expected / expected.norm(), rtol=0, atol=1e-5)


@pytest.mark.parametrize('k', [4, 50])
def test_labelled_images_are_compared_block_by_block(k, monkeypatch):
    """Never all of them at once, with the neighbours that a comparison with all of them gives."""
    model, sizes = moco_ft().eval(), []
    query, _ = extract(model, loader(7, two_views=False))
    bank, labels = extract(model, loader(30, two_views=False))
    expected = nearest(query, bank, labels, k)

    def counted(query, bank, *args):
        sizes.append(len(bank))
        return nearest(query, bank, *args)

    monkeypatch.setattr(knn, 'nearest', counted)
    monkeypatch.setattr(knn, 'BLOCK', 8)
    found = find_neighbours(model, loader(30, two_views=False), query, k)
    assert sizes == [8, 8, 8, 6]
    for column, whole in zip(found, expected, strict=True):
        assert_close(column[:, : min(k, 30)], whole)
    assert (found.similarity[:, 30:] == -torch.inf).all()


@pytest.mark.parametrize('label', [-1, None])
def test_images_without_a_label_are_refused(label):
    images = loader(9, two_views=False)
    get = type(images.dataset).__getitem__

    class Partly(type(images.dataset)):
        def __getitem__(self, index):
            item = get(self, index)
            if index == 7:
                item['data_samples'] = DataSample() if label is None else DataSample().set_gt_label(label)
            return item

    images.dataset.__class__ = Partly
    with pytest.raises(UserError, match='an image of bank or query has no label, or -1'):
        extract(moco_ft().eval(), images)


def test_monitor_logs_every_second_epoch_and_the_last_without_touching_the_run(tmp_path):
    """Colours are told apart even by random features; the training goes on as if nobody had looked."""
    monitor = KNNMonitorHook(loader(30, two_views=False), loader(12, two_views=False), k=5, interval=2)
    made = runner(tmp_path / 'seen', moco_ft())
    made.register_hook(monitor)
    made.train()
    logged = {line['step']: line['knn_top1'] for line in scalars(made) if 'knn_top1' in line}
    assert set(logged) == {2, 3}
    assert all(value == 100 for value in logged.values())
    assert made.message_hub.get_scalar('val/knn_top1').current() == 100
    unseen = runner(tmp_path / 'unseen', moco_ft())
    unseen.train()
    assert losses(unseen) == losses(made)
    assert made.model.training
