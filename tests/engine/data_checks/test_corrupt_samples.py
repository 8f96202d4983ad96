"""Corrupt training samples, from the record alone to runs of tools/train.py."""

import multiprocessing
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, ClassBalancedDataset, ConcatDataset, RepeatDataset

from reprefine.engine.config_check.check import check_config
from reprefine.engine.data_checks.corrupt_samples import CorruptRecord, indices_from, replace_unreadable
from reprefine.engine.data_checks.unreadable import UnreadableSample, name_unreadable_files
from reprefine.engine.errors import UserError
from tests.helpers import two_processes
from tests.helpers.run import assert_equal, run_test, run_train
from tests.helpers.tiny_hosts import write_config

CONFIG = """
default_scope = 'mmpretrain'
custom_imports = dict(imports=['reprefine'], allow_failed_imports=False)
pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=8), dict(type='PackInputs')]
model = dict(
    type='ImageClassifier', data_preprocessor=dict(num_classes=2),
    backbone=dict(type='ResNet', depth=18, base_channels=4, stem_channels=4),
    neck=dict(type='GlobalAveragePooling'), head=dict(type='LinearClsHead', num_classes=2, in_channels=32),
)
dataset = dict(type='CustomDataset', data_root='{root}', data_prefix='train', pipeline=pipeline)
train_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True), dataset=dataset,
)
val_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CustomDataset', data_root='{root}', data_prefix='val', pipeline=pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=1)
test_evaluator = val_evaluator
train_cfg = dict(by_epoch=True, max_epochs=2)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
visualizer = dict(type='UniversalVisualizer', vis_backends=[])
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1))
randomness = dict(seed=0)
"""


def write_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 255, (12, 12, 3), np.uint8))


@pytest.fixture
def root(tmp_path):
    """Twelve training and four validation images in two classes, with a config."""
    for index in range(12):
        write_image(tmp_path / 'train' / f'c{index % 2}' / f'{index:02}.png', index)
    for index in range(4):
        write_image(tmp_path / 'val' / f'c{index % 2}' / f'{index}.png', index)
    write_config(tmp_path, CONFIG)
    return tmp_path


def damage(root: Path, *names: str) -> list[str]:
    for number, name in enumerate(names):
        path = root / 'train' / name
        path.write_bytes([b'', b'text', path.read_bytes()[:60]][number % 3])
    return [str(root / 'train' / name) for name in names]


def train(root: Path, *argv: str, work_dir: str = 'run') -> int:
    return run_train(str(root / 'tiny.py'), '--work-dir', str(root / work_dir), *argv)


def log(root: Path, work_dir: str = 'run') -> str:
    return ''.join(path.read_text() for path in sorted((root / work_dir).glob('*/*.log')))


def recorded(root: Path, work_dir: str = 'run') -> list[str]:
    return [line.split('\t')[0] for line in (root / work_dir / 'corrupt_samples.txt').read_text().splitlines()]


def test_indices_wrap_around_once():
    assert list(indices_from(2, 4)) == [2, 3, 0, 1]


class Numbers(BaseDataset):
    """Samples 0 to 5, of which some cannot be read or are dropped."""

    def __init__(self, bad=(), dropped=(), **kwargs):
        self.bad, self.dropped = bad, dropped
        super().__init__(pipeline=[self.read], **kwargs)

    def load_data_list(self):
        return [dict(number=number) for number in range(6)]

    def get_cat_ids(self, index):
        return [0]

    def read(self, data):
        if data['number'] in self.bad:
            raise UnreadableSample(f'image {data["number"]} is bad', f'{data["number"]}.png')
        return None if data['number'] in self.dropped else data['number']


def test_the_next_readable_sample_stands_in(tmp_path):
    dataset = Numbers(bad=(1, 2, 5))
    record = CorruptRecord(str(tmp_path), limit=3)
    replace_unreadable(dataset, record)
    assert [dataset[index] for index in range(6)] == [0, 3, 3, 3, 4, 0]
    assert [one.file for one in record.read()] == ['1.png', '2.png', '5.png']
    assert [dataset[index] for index in range(6)] == [0, 3, 3, 3, 4, 0]
    assert len(record.read()) == 3  # distinct files, not times


def test_one_more_than_the_cap_stops(tmp_path):
    dataset = Numbers(bad=(1, 2, 5))
    replace_unreadable(dataset, record := CorruptRecord(str(tmp_path), limit=2))
    assert dataset[1] == 3
    with pytest.raises(UserError, match='image 5 is bad; 2 others are replaced already .* limit max_corrupt_samples'):
        dataset[5]
    assert len(record.read()) == 2


def test_nothing_is_replaced_by_default(tmp_path):
    dataset = Numbers(bad=(1,))
    replace_unreadable(dataset, record := CorruptRecord(str(tmp_path), limit=0))
    with pytest.raises(UserError, match='image 1 is bad; restore it, or replace .* max_corrupt_samples=N'):
        dataset[1]
    assert record.read() == []


def test_a_dataset_without_any_readable_sample_stops(tmp_path):
    dataset = Numbers(bad=range(6))
    replace_unreadable(dataset, CorruptRecord(str(tmp_path), limit=10))
    with pytest.raises(UserError, match='no sample of Numbers can be read'):
        dataset[3]


def test_samples_that_a_pipeline_drops_are_counted(tmp_path):
    dataset = Numbers(dropped=(0, 1, 2, 3, 4))
    replace_unreadable(dataset, record := CorruptRecord(str(tmp_path), limit=0))
    np.random.seed(0)
    expected = np.random.RandomState(0)
    draws = 1
    while expected.randint(0, 6) != 5:
        draws += 1
    assert dataset[0] == 5
    assert record.count_empty() == draws
    assert record.read() == []


@pytest.mark.parametrize(
    'wrap',
    [
        lambda inner: ConcatDataset([inner, Numbers()]),
        lambda inner: RepeatDataset(inner, 2),
        lambda inner: ClassBalancedDataset(inner, 1e-3),
        lambda inner: RepeatDataset(dict(type=ConcatDataset, datasets=[inner, Numbers()]), 2),
    ],
)
def test_wrapped_datasets_replace_within_the_inner_one(tmp_path, wrap):
    dataset = wrap(Numbers(bad=(5,)))
    replace_unreadable(dataset, CorruptRecord(str(tmp_path), limit=1))
    assert [dataset[index] for index in range(6)] == [0, 1, 2, 3, 4, 0]


def test_the_wrapper_of_mixed_images_is_reached(tmp_path):
    mixed = pytest.importorskip('mmdet.datasets').MultiImageMixDataset(Numbers(bad=(5,)), pipeline=[])
    replace_unreadable(mixed, CorruptRecord(str(tmp_path), limit=1))
    assert mixed[5] == 0


class SlowRecord(CorruptRecord):
    """Leaves time for others between counting and adding."""

    def read(self):
        known = super().read()
        time.sleep(0.002)
        return known


def _add_many(work_dir: str, first: int) -> None:
    record = SlowRecord(work_dir, limit=40)
    for number in range(first, first + 30):
        try:
            record.add(UnreadableSample('bad', f'{number}.png'))
        except UserError:
            return


def test_processes_count_together_and_keep_the_cap(tmp_path):
    context = multiprocessing.get_context('fork')
    writers = [context.Process(target=_add_many, args=(str(tmp_path), first)) for first in (0, 15, 30, 45)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    files = [one.file for one in CorruptRecord(str(tmp_path), 40).read()]
    assert len(files) == len(set(files)) == 40


class Hiding:
    """Drops what it cannot read, as mmcv's loader does on demand."""

    ignore_empty = True

    def __call__(self, data):
        return cv2.imread(data['img_path'])


def test_a_loader_that_hides_unreadable_files_does_not_escape_the_count(tmp_path):
    write_image(tmp_path / 'a.png', 0)
    dataset = Numbers()
    dataset.pipeline.transforms = [lambda data: dict(img_path=f'{tmp_path}/{data["number"]}.png'), Hiding()]
    dataset.load_data_list = lambda: [dict(img_path=f'{tmp_path}/{name}.png') for name in ('gone', 'a')]
    dataset.pipeline.transforms = [Hiding()]
    dataset._fully_initialized = False
    dataset.full_init()
    name_unreadable_files(dataset)
    with pytest.raises(UnreadableSample, match='gone.png does not exist'):
        dataset[0]
    replace_unreadable(dataset, record := CorruptRecord(str(tmp_path), limit=1))
    assert dataset[0].shape == (12, 12, 3)
    assert [one.file for one in record.read()] == [f'{tmp_path}/gone.png']


@pytest.mark.parametrize('value', [-1, 1.5, '3', True, None])
def test_max_corrupt_samples_must_be_a_count(value):
    with pytest.raises(UserError, match='max_corrupt_samples'):
        check_config(Config(dict(max_corrupt_samples=value)))


def test_max_corrupt_samples_is_known_by_name():
    check_config(Config(dict(max_corrupt_samples=2)))
    with pytest.raises(UserError, match="did you mean 'max_corrupt_samples'"):
        check_config(Config(dict(max_corupt_samples=2)))


@pytest.mark.parametrize('workers', [0, 2])
def test_a_run_replaces_warns_and_lists(root, workers, capsys):
    files = damage(root, 'c0/00.png', 'c0/04.png', 'c1/11.png')
    (root / 'train' / 'c0' / '04.png').unlink()
    (root / 'train' / 'c0' / '04.png').mkdir()  # a folder by the name of an image is no image, and not listed
    write_image(root / 'train' / 'c0' / '05.png', 1)
    files.remove(str(root / 'train' / 'c0' / '04.png'))
    options = ('--cfg-options', 'max_corrupt_samples=2', f'train_dataloader.num_workers={workers}')
    assert train(root, *options) == 0
    assert sorted(recorded(root)) == files
    text = log(root)
    for file in files:
        assert text.count(f'replaced by the next sample: image {file} cannot be read') == 1
    listed = text[text.index('2 training samples could not be read and were replaced, as ') :]
    assert all(file in listed for file in files)


@pytest.mark.parametrize('workers', [0, 2])
def test_a_run_stops_over_the_cap_with_one_line(root, workers, capsys):
    damage(root, 'c0/00.png', 'c0/04.png', 'c1/11.png')
    options = ('--cfg-options', 'max_corrupt_samples=2', f'train_dataloader.num_workers={workers}')
    assert train(root, *options) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith('train.py: error: image ')
    assert '2 others are replaced already' in error
    assert len(recorded(root)) == 2


def test_a_loop_over_iterations_whose_workers_start_early_replaces_too(root):
    files = damage(root, 'c0/00.png', 'c1/11.png')
    text = CONFIG.replace('by_epoch=True, max_epochs=2', 'by_epoch=False, max_iters=6, val_interval=6')
    text = text.replace("sampler=dict(type='DefaultSampler', shuffle=True)", "sampler=dict(type='InfiniteSampler')")
    write_config(root, text)
    assert train(root, '--cfg-options', 'max_corrupt_samples=2', 'train_dataloader.num_workers=2') == 0
    assert sorted(recorded(root)) == files
    assert '2 training samples could not be read' in log(root)


def test_validation_is_never_replaced(root, capsys):
    damaged = root / 'val' / 'c0' / '0.png'
    damaged.write_bytes(b'')
    assert train(root, '--cfg-options', 'max_corrupt_samples=5') == 1
    assert f'image {damaged} cannot be read' in capsys.readouterr().err.splitlines()[-1]
    assert not (root / 'run' / 'corrupt_samples.txt').exists()
    checkpoint = str(root / 'run' / 'epoch_1.pth')
    assert run_test(str(root / 'tiny.py'), checkpoint, '--cfg-options', 'max_corrupt_samples=5') == 1
    assert f'image {damaged} cannot be read' in capsys.readouterr().err.splitlines()[-1]


def weights(root: Path, work_dir: str) -> dict:
    return torch.load(root / work_dir / 'epoch_2.pth', weights_only=True)['state_dict']


def test_resumed_and_uninterrupted_runs_agree_and_count_on(root):
    files = damage(root, 'c0/00.png', 'c1/11.png')
    once = ('--cfg-options', 'max_corrupt_samples=2')
    assert train(root, *once, work_dir='uninterrupted') == 0
    assert train(root, *once, 'train_cfg.max_epochs=1', work_dir='resumed') == 0
    assert sorted(recorded(root, 'resumed')) == files
    assert train(root, *once, '--resume', work_dir='resumed') == 0
    assert_equal(weights(root, 'uninterrupted'), weights(root, 'resumed'))
    assert sorted(recorded(root, 'resumed')) == files
    assert log(root, 'resumed').count('2 training samples could not be read') == 2


def test_a_resumed_run_keeps_the_count_of_what_is_repaired(root):
    files = damage(root, 'c0/00.png', 'c1/11.png')
    once = ('--cfg-options', 'max_corrupt_samples=2')
    assert train(root, *once, 'train_cfg.max_epochs=1') == 0
    for name in ('c0/00.png', 'c1/11.png'):
        write_image(root / 'train' / name, 3)
    assert train(root, *once, '--resume') == 0
    assert sorted(recorded(root)) == files
    assert log(root).count('replaced by the next sample') == 2  # warned of once
    assert log(root).count('2 training samples could not be read') == 2


def test_a_new_run_forgets_the_record_of_a_failed_one(root):
    damage(root, 'c0/00.png', 'c1/11.png')
    assert train(root, '--cfg-options', 'max_corrupt_samples=1') == 1
    for name in ('c0/00.png', 'c1/11.png'):
        write_image(root / 'train' / name, 3)
    assert train(root, '--cfg-options', 'max_corrupt_samples=1') == 0
    assert not (root / 'run' / 'corrupt_samples.txt').exists()
    assert 'could not be read' not in log(root)


def test_two_processes_share_the_count(root):
    files = damage(root, 'c0/00.png', 'c0/02.png', 'c1/11.png')
    code, output = two_processes.train(root / 'run', str(root / 'tiny.py'), '--cfg-options', 'max_corrupt_samples=3')
    assert code == 0, output
    assert sorted(recorded(root)) == files
    assert '3 training samples could not be read and were replaced' in log(root)
