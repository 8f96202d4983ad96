import numpy as np
import pytest
from PIL import Image

from reprefine.engine.errors import UserError
from reprefine.tasks.classification.datasets.tiny_imagenet import TinyImageNet
from reprefine.tasks.classification.prepare.tiny_imagenet import sort_val_images

WNIDS = ['n01443537', 'n01629819', 'n02124075']


def save(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(path, format='JPEG')


@pytest.fixture
def root(tmp_path):
    """Three classes as downloaded: two training images each, six validation images in one folder."""
    folder = tmp_path / 'tiny'
    for label, wnid in enumerate(WNIDS):
        for number in range(2):
            save(folder / 'train' / wnid / 'images' / f'{wnid}_{number}.JPEG', label)
    lines = []
    for number in range(6):
        save(folder / 'val' / 'images' / f'val_{number}.JPEG', number)
        lines.append(f'val_{number}.JPEG\t{WNIDS[number % 3]}\t0\t0\t62\t62\n')
    (folder / 'val' / 'val_annotations.txt').write_text(''.join(lines))
    return folder


def pairs(dataset):
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    return [(info['img_path'].rsplit('/')[-1], info['gt_label']) for info in infos]


def test_labels_are_ranks_of_the_wnids(root):
    train = TinyImageNet(str(root), 'train')
    assert pairs(train) == [(f'{wnid}_{number}.JPEG', label) for label, wnid in enumerate(WNIDS) for number in (0, 1)]
    assert train.metainfo['classes'] == tuple(WNIDS)


def test_both_layouts_of_the_validation_images_give_the_same_samples(root, tmp_path):
    raw = pairs(TinyImageNet(str(root), 'val'))
    assert raw == [(f'val_{number}.JPEG', number % 3) for number in (0, 3, 1, 4, 2, 5)]
    assert sort_val_images(root, tmp_path / 'sorted') == 6
    (root / 'val').rename(tmp_path / 'raw')
    (tmp_path / 'sorted').rename(root / 'val')
    assert pairs(TinyImageNet(str(root), 'val')) == raw


def test_sorting_can_be_repeated_and_leaves_its_source(root, tmp_path):
    before = sorted(path.relative_to(root) for path in root.rglob('*'))
    for _ in range(2):
        assert sort_val_images(root, tmp_path / 'sorted') == 6
    assert sorted(path.relative_to(root) for path in root.rglob('*')) == before
    images = sorted((tmp_path / 'sorted').rglob('*.*'))
    assert [image.parent.name for image in images] == [WNIDS[0]] * 2 + [WNIDS[1]] * 2 + [WNIDS[2]] * 2


def test_missing_files_are_named(root, tmp_path):
    with pytest.raises(UserError, match=r'nowhere/train holds no class folder; expected wnids.txt, train/<wnid>'):
        TinyImageNet(str(tmp_path / 'nowhere'), 'train')
    with pytest.raises(UserError, match="unknown split 'test'"):
        TinyImageNet(str(root), 'test')
    (root / 'val' / 'images' / 'val_4.JPEG').unlink()
    with pytest.raises(UserError, match='lacks 1 of 6 images, such as val_4.JPEG'):
        sort_val_images(root, tmp_path / 'sorted')
    (root / 'val' / 'val_annotations.txt').unlink()
    with pytest.raises(UserError, match='val_annotations.txt does not exist'):
        TinyImageNet(str(root), 'val')
