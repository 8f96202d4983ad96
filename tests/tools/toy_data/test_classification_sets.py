import pickle
import re
import sys

import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmpretrain.datasets import CIFAR10, ImageNet
from toy_data.imagenet import class_words, filled_wnids

from reprefine.engine.errors import UserError
from reprefine.tasks.classification import CIFAR10 as OurCIFAR10
from reprefine.tasks.classification import TinyImageNet
from reprefine.tasks.classification.classes import WNIDS
from reprefine.tasks.classification.image_lists import class_counts, read_list
from tests.tools.toy_data.compare import assert_like, files


class UncheckedCIFAR10(CIFAR10):
    """The host's dataset, which otherwise wants the checksums of the real files."""

    train_list = [[name, None] for name, _ in CIFAR10.train_list]
    test_list = [[name, None] for name, _ in CIFAR10.test_list]
    meta = {**CIFAR10.meta, 'md5': None}


@pytest.fixture(scope='module')
def cifar10(record):
    return record('cifar10', 'draw_class_image')


@pytest.fixture(scope='module')
def imagenet(record):
    return record('imagenet', 'draw_class_image')


@pytest.fixture(scope='module')
def tiny_imagenet(record):
    return record('tiny-imagenet', 'draw_class_image')


@pytest.fixture(scope='module')
def labels_of_wnids():
    return {wnid: label for label, wnid in enumerate(sorted(class_words()))}


@pytest.mark.parametrize('dataset', [UncheckedCIFAR10, OurCIFAR10])
@pytest.mark.parametrize(('split', 'count'), [('train', 600), ('test', 200)])
def test_cifar10_is_read_as_drawn(cifar10, dataset, split, count):
    folder, scenes = cifar10
    samples = dataset(data_root=str(folder), split=split, download=False)
    scenes = scenes[:600] if split == 'train' else scenes[600:]
    assert len(samples) == len(scenes) == count
    labels = [sample['gt_label'] for sample in samples]
    assert labels == [int(scene.labels[0]) for scene in scenes]
    assert np.bincount(labels).tolist() == [count // 10] * 10
    assert all(np.array_equal(sample['img'], scene.image) for sample, scene in zip(samples, scenes, strict=True))


def test_cifar10_files_have_the_form_of_the_real_ones(cifar10):
    folder = cifar10[0] / 'cifar-10-batches-py'
    batch = pickle.loads((folder / 'data_batch_2').read_bytes(), encoding='bytes')
    assert set(batch) == {b'batch_label', b'labels', b'data', b'filenames'}
    assert batch[b'batch_label'] == b'training batch 2 of 5'
    assert (batch[b'data'].shape, batch[b'data'].dtype) == ((120, 3072), np.uint8)
    meta = pickle.loads((folder / 'batches.meta').read_bytes(), encoding='latin1')
    assert meta['label_names'][:2] == ['airplane', 'automobile']
    assert meta['num_cases_per_batch'] == 120


@pytest.mark.parametrize(('split', 'count'), [('train', 500), ('val', 100)])
def test_imagenet_labels_agree_by_folders_and_by_list(imagenet, labels_of_wnids, split, count):
    root = imagenet[0]
    by_list = ImageNet(data_root=str(root), split=split)
    by_folders = ImageNet(data_root=str(root), data_prefix=split)
    labels = {sample['img_path']: sample['gt_label'] for sample in by_folders}
    assert by_list.ann_file.endswith(f'meta/{split}.txt')
    assert not by_folders.ann_file
    assert labels == {sample['img_path']: sample['gt_label'] for sample in by_list}
    assert len(by_list) == len(labels) == count
    assert all(labels_of_wnids[path.split('/')[-2]] == label for path, label in labels.items())
    assert np.unique(list(labels.values()), return_counts=True)[1].tolist() == [count // 20] * 20


def test_imagenet_names_are_those_of_the_release(imagenet):
    root = imagenet[0]
    train, val = (sorted((root / split).rglob('*.JPEG')) for split in ('train', 'val'))
    assert all(re.fullmatch(rf'{path.parent.name}_\d+\.JPEG', path.name) for path in train)
    assert sorted(path.name for path in val) == [f'ILSVRC2012_val_{number:08}.JPEG' for number in range(1, 101)]
    assert {len(list((root / split).iterdir())) for split in ('train', 'val')} == {1000}
    assert set(filled_wnids()) < set(WNIDS)


def test_imagenet_images_show_their_class(imagenet, labels_of_wnids):
    root, scenes = imagenet
    samples = [sample for split in ('train', 'val') for sample in ImageNet(data_root=str(root), split=split)]
    images = [LoadImageFromFile()(sample)['img'] for sample in samples]
    wnids = filled_wnids()
    kinds = {labels_of_wnids[wnid]: kind for kind, wnid in enumerate(wnids)}
    brightest = {kind: [] for kind in range(20)}
    for sample, image in zip(samples, images, strict=True):
        brightest[kinds[sample['gt_label']]].append(image.mean())
    # The dark style comes first.
    assert max(np.mean(brightest[kind]) for kind in range(10)) + 40 < min(
        np.mean(brightest[kind]) for kind in range(10, 20)
    )
    digits = [int(scene.labels[0]) for scene in scenes]
    assert digits[:500] == [kind % 10 for kind in range(20) for _ in range(25)]
    assert len({image.shape for image in images}) > 100


def test_imagenet100_lists_number_the_classes_by_rank(toy):
    root = toy('imagenet100')
    for split, count in (('train', 500), ('val', 100)):
        dataset = ImageNet(
            data_root=str(root), data_prefix=split, ann_file=f'meta/{split}_100.txt', metainfo=dict(classes=WNIDS)
        )
        assert len(dataset) == count
        assert all(WNIDS[sample['gt_label']] == sample['img_path'].split('/')[-2] for sample in dataset)
    assert toy('imagenet') == root


def test_imagenet100_long_tail_is_a_part_of_the_training_list(toy):
    whole, part = (read_list(toy('imagenet100') / 'meta' / f'train_100{tail}.txt') for tail in ('', '_lt'))
    assert set(part) < set(whole)
    sizes = class_counts(part)
    assert (np.count_nonzero(sizes), sizes.max(), sizes[sizes > 0].min()) == (20, 25, 1)


def test_tiny_imagenet_has_the_files_of_the_download(tiny_imagenet):
    root, scenes = tiny_imagenet
    wnids = (root / 'wnids.txt').read_text().split()
    assert len(set(wnids)) == 200
    assert set(wnids) == {path.name for path in (root / 'train').iterdir()}
    words = dict(line.split('\t') for line in (root / 'words.txt').read_text().splitlines())
    assert words['n01443537'] == 'goldfish, Carassius auratus'
    boxes = {}
    for wnid in wnids:
        lines = (root / 'train' / wnid / f'{wnid}_boxes.txt').read_text().splitlines()
        boxes |= {line.split('\t')[0]: [int(side) for side in line.split('\t')[1:]] for line in lines}
    drawn = {f'{wnids[kind]}_{n}.JPEG': scenes[20 * kind + n] for kind in range(20) for n in range(20)}
    assert boxes == {name: (scene.boxes[0] - [0, 0, 1, 1]).tolist() for name, scene in drawn.items()}
    assert len(list((root / 'test' / 'images').iterdir())) == 10


@pytest.mark.parametrize(('split', 'count'), [('train', 400), ('val', 100)])
def test_tiny_imagenet_labels_and_images_agree(tiny_imagenet, split, count):
    root, scenes = tiny_imagenet
    wnids = (root / 'wnids.txt').read_text().split()
    dataset = TinyImageNet(data_root=str(root), split=split)
    kinds = {sorted(wnids).index(wnid): kind for kind, wnid in enumerate(wnids)}
    assert len(dataset) == count
    for sample in dataset:
        number = int(re.search(r'_(\d+)\.JPEG', sample['img_path'])[1])
        kind = kinds[sample['gt_label']]
        scene = scenes[20 * kind + number] if split == 'train' else scenes[400 + number]
        assert scene.labels[0] == kind % 10
        assert_like(LoadImageFromFile()(dict(sample))['img'], scene.image)


@pytest.mark.parametrize('name', ['cifar10', 'tiny_imagenet'])
def test_bytes_are_the_same_again(request, toy, name):
    again = files(toy(name.replace('_', '-')))
    assert files(request.getfixturevalue(name)[0]) == again


def test_imagenet_bytes_are_the_same_again(imagenet, toy):
    again = files(toy('imagenet'))
    first = files(imagenet[0])
    assert first.items() <= again.items()
    assert {path for path in again if path not in first} <= {
        f'meta/{name}.txt' for name in ('train_100', 'train_100_lt', 'val_100', 'classes_100')
    }


def test_missing_class_names_are_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, 'timm.data', None)
    with pytest.raises(UserError, match='pip install timm'):
        class_words()
