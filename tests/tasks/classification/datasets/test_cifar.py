import pickle

import numpy as np
import pytest

from reprefine.engine.errors import UserError
from reprefine.tasks.classification.datasets.cifar import CIFAR10, read_batch

FILES = [f'data_batch_{number}' for number in range(1, 6)] + ['test_batch']


@pytest.fixture
def root(tmp_path):
    """CIFAR-10 of two images per file, in the published encoding."""
    folder = tmp_path / 'cifar-10-batches-py'
    folder.mkdir()
    for number, name in enumerate(FILES):
        data = np.random.default_rng(number).integers(0, 256, (2, 3072), dtype=np.uint8)
        (folder / name).write_bytes(pickle.dumps({'data': data, 'labels': [number, 9 - number]}, protocol=2))
    return tmp_path


def test_planes_become_pixels_and_files_keep_their_order(root):
    dataset = CIFAR10(str(root), 'train')
    assert [dataset[index]['gt_label'] for index in range(len(dataset))] == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]
    image = dataset[3]['img']
    planes = np.random.default_rng(1).integers(0, 256, (2, 3072), dtype=np.uint8)[1].reshape(3, 32, 32)
    assert image.shape == (32, 32, 3)
    for channel in range(3):
        np.testing.assert_array_equal(image[..., channel], planes[channel])


def test_the_test_split_is_its_own_file(root):
    assert [sample['gt_label'] for sample in CIFAR10(str(root), 'test')] == [5, 4]


def test_equals_mmpretrain_on_files_that_mmpretrain_accepts(root, monkeypatch):
    from mmpretrain.datasets import CIFAR10 as HostCIFAR10

    monkeypatch.setattr(HostCIFAR10, '_check_integrity', lambda self: True)
    dataset, reference = CIFAR10(str(root), 'train'), HostCIFAR10(data_root=str(root), split='train')
    for index in range(len(reference)):
        np.testing.assert_array_equal(dataset[index]['img'], reference[index]['img'])
        assert dataset[index]['gt_label'] == reference[index]['gt_label']


def test_missing_files_are_named_and_nothing_is_fetched(root):
    (root / 'cifar-10-batches-py' / 'data_batch_3').unlink()
    with pytest.raises(UserError, match='lacks data_batch_3; unpack the python version of CIFAR-10'):
        CIFAR10(str(root), 'train')


class Attack:
    def __reduce__(self):
        return print, ('executed',)


@pytest.mark.parametrize('content', [pickle.dumps({'data': Attack()}), b'', pickle.dumps([1] * 9)[:9]])
def test_a_pickle_that_would_run_code_or_is_cut_is_refused(tmp_path, capsys, content):
    file = tmp_path / 'data_batch_1'
    file.write_bytes(content)
    with pytest.raises(UserError, match=f'{file} is corrupted or not a batch file of CIFAR-10'):
        read_batch(file)
    assert 'executed' not in capsys.readouterr().out
