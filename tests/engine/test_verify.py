import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from reprefine.engine.verify import faults, plain_datasets


@pytest.fixture
def cfg(tmp_path):
    """Six images in two class folders, of which one is cut, one empty and one no image; read through two wrappers."""
    for index in range(6):
        image = tmp_path / 'train' / f'class{index % 2}' / f'{index}.jpg'
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(index).integers(0, 255, (32, 32, 3), np.uint8)).save(image)
    cut = tmp_path / 'train' / 'class0' / '2.jpg'
    cut.write_bytes(cut.read_bytes()[:-300])
    (tmp_path / 'train' / 'class1' / '3.jpg').write_bytes(b'')
    (tmp_path / 'train' / 'class1' / '5.jpg').write_bytes(b'no image')
    init_default_scope('mmpretrain')
    plain = dict(
        type='mmpretrain.ImageNet',
        data_root=str(tmp_path),
        split='train',
        classes=('class0', 'class1'),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='ResizeEdge', scale=9), dict(type='PackInputs')],
    )
    train = dict(type='RepeatDataset', times=3, dataset=dict(type='ConcatDataset', datasets=[plain]))
    return Config(dict(train_dataloader=dict(dataset=train), val_dataloader=dict(dataset=train)))


@pytest.mark.parametrize('workers', [0, 2])
def test_every_unreadable_sample_is_found_once(cfg, tmp_path, workers):
    ((place, dataset),) = plain_datasets(cfg)  # the validation loader reads the same samples
    assert place == 'train_dataloader.dataset.dataset.datasets.0'
    found = [fault for fault in faults(dataset, workers) if fault]
    files = [f'{tmp_path}/train/{name}.jpg' for name in ('class0/2', 'class1/3', 'class1/5')]
    assert [(fault.index, *fault.files) for fault in found] == list(zip((1, 4, 5), files, strict=True))
    assert 'truncated' in found[0].reason
    assert all('\n' not in fault.reason for fault in found)


def test_sound_samples_have_no_fault(cfg):
    ((_, dataset),) = plain_datasets(cfg)
    assert [fault is None for fault in faults(dataset, 0)] == [True, False, True, True, False, False]
