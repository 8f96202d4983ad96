import numpy as np
import pytest
from PIL import Image

from reprefine.engine.data_checks.unreadable import UnreadableSample
from reprefine.tasks.segmentation import LoadFeatureMap


@pytest.fixture
def image(tmp_path):
    file = tmp_path / 'kit/VOC2012/JPEGImages/a.jpg'
    file.parent.mkdir(parents=True)
    Image.new('RGB', (30, 20)).save(file)
    return file


@pytest.fixture
def stored(tmp_path):
    file = tmp_path / 'maps/VOC2012/JPEGImages/a.jpg.npy'
    file.parent.mkdir(parents=True)
    return file


def load(tmp_path, image):
    return LoadFeatureMap(str(tmp_path / 'maps'))(dict(img_path=str(image), seg_map_path='b.png'))


@pytest.mark.parametrize('leading', [(), (1,)])
def test_map_and_sizes(tmp_path, image, stored, leading):
    features = np.random.default_rng(0).normal(size=(*leading, 3, 4, 5)).astype(np.float16)
    np.save(stored, features)
    results = load(tmp_path, image)
    assert np.array_equal(results['img'], features.reshape(3, 4, 5).astype(np.float32))
    assert results['img'].dtype == np.float32
    assert (results['img_shape'], results['ori_shape'], results['seg_map_path']) == ((3, 4), (20, 30), 'b.png')


def test_a_missing_map_is_named(tmp_path, image, stored):
    with pytest.raises(UnreadableSample, match=r'a\.jpg\.npy does not exist: write it with tools'):
        load(tmp_path, image)


def test_corrupted_maps_and_maps_of_another_shape_are_named(tmp_path, image, stored):
    stored.write_bytes(b'\x93NUMPY')
    with pytest.raises(UnreadableSample, match=r'a\.jpg\.npy is corrupted'):
        load(tmp_path, image)
    np.save(stored, np.zeros((2, 3, 4, 5)))
    with pytest.raises(UnreadableSample, match=r'shape \(2, 3, 4, 5\)'):
        load(tmp_path, image)
