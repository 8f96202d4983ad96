import numpy as np
import pytest

from reprefine.engine.errors import UserError
from reprefine.tasks.classification.classes import WNIDS
from reprefine.tasks.classification.prepare.imagenet_subset import read_classes, write_subset

FOLDERS = [f'n{number:08d}' for number in range(1000)]
CHOSEN = [FOLDERS[index] for index in (700, 3, 41)]


@pytest.fixture
def root(tmp_path):
    """A thousand class folders; four have images. Validation images are in class folders."""
    for wnid in FOLDERS:
        (tmp_path / 'train' / wnid).mkdir(parents=True)
    (tmp_path / 'val').mkdir()
    for wnid in [*CHOSEN, FOLDERS[9]]:
        (tmp_path / 'train' / wnid / f'{wnid}_1.JPEG').touch()
        (tmp_path / 'val' / wnid).mkdir()
        (tmp_path / 'val' / wnid / f'val_{wnid}.JPEG').touch()
    return tmp_path


def lines(root, split):
    return (root / 'meta' / f'{split}_100.txt').read_text().splitlines()


def test_the_published_list():
    assert len(set(WNIDS)) == 100
    assert list(WNIDS) == sorted(WNIDS)
    assert (WNIDS[0], WNIDS[99]) == ('n01558993', 'n13040303')


def test_labels_are_ranks_whatever_the_order_of_the_classes(root):
    for order in (CHOSEN, sorted(CHOSEN), CHOSEN[::-1]):
        assert write_subset(root, order) == {'train': 3, 'val': 3}
        assert lines(root, 'train') == [f'{wnid}/{wnid}_1.JPEG {rank}' for rank, wnid in enumerate(sorted(CHOSEN))]
        assert lines(root, 'classes') == sorted(CHOSEN)


def test_both_layouts_of_the_validation_images_agree(root):
    write_subset(root, CHOSEN)
    by_folder = {line.split('/')[-1] for line in lines(root, 'val')}
    listing = []
    for image in sorted((root / 'val').rglob('*.JPEG')):
        image.rename(root / 'val' / image.name)
        listing.append(f'{image.name} {FOLDERS.index(image.parent.name)}\n')
        image.parent.rmdir()
    (root / 'meta' / 'val.txt').write_text(''.join(listing))
    write_subset(root, CHOSEN)
    assert set(lines(root, 'val')) == by_folder


def test_the_lists_are_read_by_the_host(root):
    from mmpretrain.datasets import ImageNet

    write_subset(root, CHOSEN)
    classes = str(root / 'meta' / 'classes_100.txt')
    dataset = ImageNet(data_root=str(root), split='train', ann_file='meta/train_100.txt', classes=classes)
    assert dataset.metainfo['classes'] == tuple(sorted(CHOSEN)) or list(dataset.metainfo['classes']) == sorted(CHOSEN)
    assert np.array_equal(dataset.get_gt_labels(), [0, 1, 2])


def test_what_is_missing_is_named(root, tmp_path):
    with pytest.raises(UserError, match=r'train lacks 1 of 2 classes: n99999999'):
        write_subset(root, ['n99999999', CHOSEN[0]])
    with pytest.raises(UserError, match='is not an ImageNet folder: expected train/<wnid>'):
        write_subset(tmp_path / 'nowhere', CHOSEN)
    with pytest.raises(UserError, match='train has no images of these classes'):
        write_subset(root, [FOLDERS[5]])
    for image in list((root / 'val').rglob('*.JPEG')):
        image.rename(root / 'val' / image.name)
        image.parent.rmdir()
    with pytest.raises(UserError, match=r'meta/val.txt and all 1000 folders'):
        write_subset(root, CHOSEN)


def test_class_files(tmp_path):
    file = tmp_path / 'classes.txt'
    file.write_text('n00000002\nn00000001\n')
    assert read_classes(file) == ['n00000001', 'n00000002']
    for content in ('n00000001\nn00000001\n', 'cat\n'):
        file.write_text(content)
        with pytest.raises(UserError, match='is not a wnid such as n01558993, or is listed twice'):
            read_classes(file)
    with pytest.raises(UserError, match='does not exist'):
        read_classes(tmp_path / 'none.txt')
