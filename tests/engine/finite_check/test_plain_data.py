"""Batches are converted to plain data that weights-only loading accepts, and back."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.structures import InstanceData, PixelData
from mmpose.structures import PoseDataSample
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample

from reprefine.engine.errors import UserError
from reprefine.engine.finite_check.plain_data import KIND, from_plain, to_plain


def assert_same(a, b):
    """Compare nested containers, arrays and objects by type and value."""
    assert type(a) is type(b)
    if torch.is_tensor(a):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif hasattr(a, '__dict__'):
        assert_same(vars(a), vars(b))
    else:
        assert a == b


def detection():
    sample = DetDataSample(metainfo=dict(img_path='a.png', scale_factor=(0.5, np.float32(2.0)), ids={1, 2}))
    masks = BitmapMasks(np.eye(4, dtype=np.uint8)[None], 4, 4)
    sample.gt_instances = InstanceData(bboxes=HorizontalBoxes(torch.rand(1, 4)), labels=torch.tensor([1]), masks=masks)
    polygons = PolygonMasks([[np.array([0.0, 0.0, 1.0, 0.0, 1.0, 1.0])]], 4, 4)
    sample.ignored_instances = InstanceData(masks=polygons, names=np.array(['x']))
    return sample


def segmentation():
    sample = SegDataSample(metainfo=dict(img_path='a.png', flip=None))
    sample.gt_sem_seg = PixelData(data=torch.randint(0, 3, (1, 4, 4)))
    return sample


def pose():
    sample = PoseDataSample(metainfo=dict(img_id=3, input_size=np.array([192, 256])))
    sample.gt_instances = InstanceData(keypoints=np.random.rand(1, 17, 2))
    sample.gt_fields = PixelData(heatmaps=torch.rand(17, 4, 4))
    return sample


def classification():
    return DataSample(metainfo=dict(sample_idx=np.int64(4))).set_gt_label(2).set_gt_score(torch.rand(5))


@pytest.mark.parametrize('make', [detection, segmentation, pose, classification])
def test_data_samples_survive_a_weights_only_file(make, tmp_path):
    batch = dict(inputs=[torch.rand(3, 4, 4)], data_samples=[make()], shape=torch.Size([1, 2]), flag=True)
    torch.save(to_plain(batch), tmp_path / 'batch.pth')
    again = from_plain(torch.load(tmp_path / 'batch.pth', weights_only=True))
    assert_same(again, {**batch, 'shape': (1, 2)})
    converted, expected = again['data_samples'][0], batch['data_samples'][0]
    assert sorted(converted.keys()) == sorted(expected.keys())  # they come from a set


def test_the_copy_does_not_follow_the_original():
    tensor, array = torch.zeros(2), np.zeros(2)
    plain = to_plain(dict(tensor=tensor, array=array, path=Path('a/b')))
    tensor += 1
    array += 1
    again = from_plain(plain)
    assert again['tensor'].tolist() == again['array'].tolist() == [0.0, 0.0]
    assert again['path'] == 'a/b'


def test_other_objects_are_refused():
    with pytest.raises(TypeError, match='a builtins.object cannot be written as plain data'):
        to_plain(dict(a=[object()]))


@pytest.mark.parametrize('name', ['os:system', 'torch.nn:Linear', 'absent:Thing', 'mmengine.structures:nothing', ''])
def test_a_file_cannot_name_any_class(name):
    with pytest.raises(UserError, match='is no data sample class that the config imports'):
        from_plain({KIND: 'sample', 'class': name, 'fields': {}})
