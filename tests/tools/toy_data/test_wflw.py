import json
import re

import cv2
import numpy as np
import pytest
from toy_data import make_toy_data
from toy_data.faces import MIRROR

from tests.tools.toy_data.compare import files

ATTRIBUTES = ('largepose', 'expression', 'illumination', 'makeup', 'occlusion', 'blur')


@pytest.fixture(scope='module')
def folder(toy):
    return toy('wflw')


@pytest.fixture(scope='module')
def subsets(folder):
    names = ('train', 'test', *(f'test_{attribute}' for attribute in ATTRIBUTES))
    return {n: json.loads((folder / f'annotations/face_landmarks_wflw_{n}.json').read_text()) for n in names}


def points_of(subset):
    return np.array([face['keypoints'] for face in subset['annotations']]).reshape(-1, 98, 3)[..., :2]


def ids(subset):
    return {face['id'] for face in subset['annotations']}


def faces_with(subsets, attribute):
    """Return the test faces that show an attribute and those that show none."""
    test, some = subsets['test'], set().union(*(ids(subsets[f'test_{name}']) for name in ATTRIBUTES))
    shown = ids(subsets[f'test_{attribute}'])
    faces = [face['id'] for face in test['annotations']]
    return [i for i, face in enumerate(faces) if face in shown], [i for i, face in enumerate(faces) if face not in some]


@pytest.fixture
def crops(folder, subsets):
    """Return the pixels in the boxes of the test faces, RGB in [0, 1]."""
    test = subsets['test']
    names = {image['id']: image['file_name'] for image in test['images']}
    found = []
    for face in test['annotations']:
        x, y, width, height = np.rint(face['bbox']).astype(int)
        image = cv2.imread(str(folder / 'images' / names[face['image_id']]))[..., ::-1] / 255
        found.append(image[y : y + height, x : x + width])
    return found


def test_files_and_images_belong_together(folder, subsets):
    images = subsets['train']['images'] + subsets['test']['images']
    named = {image['file_name']: (image['width'], image['height']) for image in images}
    written = {str(path.relative_to(folder / 'images')): path for path in (folder / 'images').rglob('*.*')}
    assert named.keys() == written.keys()
    for name, size in named.items():
        assert re.fullmatch(r'(\d+)--\w+/\1_\w+_\d+\.jpg', name)
        assert cv2.imread(str(written[name])).shape[1::-1] == size


def test_train_and_test_share_nothing(subsets):
    train, test = subsets['train'], subsets['test']
    assert len(train['annotations']) >= 70 and len(test['annotations']) >= 25
    assert ids(train).isdisjoint(ids(test)) and len(ids(train)) == len(train['annotations'])
    assert {image['id'] for image in train['images']}.isdisjoint(image['id'] for image in test['images'])
    assert {image['file_name'] for image in train['images']}.isdisjoint(image['file_name'] for image in test['images'])


@pytest.mark.parametrize('attribute', ATTRIBUTES)
def test_subsets_are_parts_of_test(subsets, attribute):
    part, test = subsets[f'test_{attribute}'], subsets['test']
    assert 3 <= len(part['annotations']) < len(test['annotations']) / 3
    assert all(face in test['annotations'] for face in part['annotations'])
    assert all(image in test['images'] for image in part['images'])
    assert {face['image_id'] for face in part['annotations']} == {image['id'] for image in part['images']}


@pytest.mark.parametrize('name', ['train', 'test'])
def test_annotations_describe_the_landmarks(subsets, name):
    for face, points in zip(subsets[name]['annotations'], points_of(subsets[name]), strict=True):
        low, high = points.min(0), points.max(0)
        np.testing.assert_allclose(face['bbox'], [*low, *(high - low)], atol=0.02)
        np.testing.assert_allclose(face['center'], (low + high) / 2, atol=0.02)
        assert face['scale'] * 200 == pytest.approx((high - low).max(), abs=0.02)
        assert (face['category_id'], face['iscrowd'], face['num_keypoints']) == (1, 0, 98)
        assert face['keypoints'][2::3] == [2.0] * 98


@pytest.mark.parametrize('name', ['train', 'test'])
def test_landmarks_lie_in_the_image_and_faces_apart(subsets, name):
    sizes = {image['id']: (image['width'], image['height']) for image in subsets[name]['images']}
    points, centers = points_of(subsets[name]), {}
    for face, own in zip(subsets[name]['annotations'], points, strict=True):
        assert np.all(own > 0) and np.all(own < np.array(sizes[face['image_id']]) - 1)
        centers.setdefault(face['image_id'], []).append(face['center'])
    assert sorted({len(found) for found in centers.values()}) == [1, 2]
    assert all(abs(found[0][0] - found[-1][0]) > 80 for found in centers.values() if len(found) == 2)


def test_largepose_and_expression_show_in_the_landmarks(subsets):
    points = points_of(subsets['test'])
    eyes = np.linalg.norm(points[:, 72] - points[:, 60], axis=1)
    across = (points[:, 72] - points[:, 60]) / eyes[:, None]
    turned = np.abs(((points[:, 54] - points[:, [60, 72]].mean(1)) * across).sum(1)) / eyes
    opened = np.linalg.norm(points[:, 94] - points[:, 90], axis=1) / eyes
    for values, attribute in ((turned, 'largepose'), (opened, 'expression')):
        shown, others = faces_with(subsets, attribute)
        assert values[shown].min() > values[others].max()


def test_blur_shows_in_the_pixels(subsets, crops):
    detail = np.array([cv2.Laplacian(crop.mean(2), cv2.CV_64F).std() / crop.mean() for crop in crops])
    shown, others = faces_with(subsets, 'blur')
    assert detail[shown].max() < detail[others].min()


def test_illumination_shows_in_the_white_of_the_eyes(subsets, crops):
    white = []
    for points, crop in zip(points_of(subsets['test']), crops, strict=True):
        rows, columns = np.rint(points[60:76] - points.min(0)).astype(int).T[::-1]
        white.append(crop[rows.min() : rows.max(), columns.min() : columns.max()].mean(2).max())
    shown, others = faces_with(subsets, 'illumination')
    assert np.max(np.array(white)[shown]) < np.min(np.array(white)[others])


def test_makeup_shows_on_the_lips(subsets, crops):
    saturation = []
    for face, crop in zip(subsets['test']['annotations'], crops, strict=True):
        points = np.reshape(face['keypoints'], (98, 3))[:, :2] - np.rint(face['bbox'][:2])
        column, row = np.rint(points[[85, 94]].mean(0)).astype(int)
        lip = crop[row, column]
        saturation.append(np.ptp(lip) / lip.max())
    shown, others = faces_with(subsets, 'makeup')
    assert np.mean(np.array(saturation)[shown]) > np.mean(np.array(saturation)[others]) + 0.1


def test_host_library_reads_every_file(folder, subsets):
    from mmpose.datasets.datasets.face import WFLWDataset

    for name, subset in subsets.items():
        ann_file = f'annotations/face_landmarks_wflw_{name}.json'
        dataset = WFLWDataset(ann_file=ann_file, data_root=str(folder), data_prefix=dict(img='images/'), test_mode=True)
        assert len(dataset) == len(subset['annotations'])
        faces = {face['id']: face for face in subset['annotations']}
        for sample in (dataset[index] for index in range(len(dataset))):
            face = faces[sample['id']]
            keypoints = np.reshape(face['keypoints'], (98, 3))[:, :2]
            np.testing.assert_allclose(sample['keypoints'][0], keypoints, rtol=1e-5)
            assert sample['keypoints_visible'].min() == 1
            assert cv2.imread(sample['img_path']) is not None
            x1, y1, x2, y2 = sample['bbox'][0]
            x, y, width, height = face['bbox']
            assert x1 <= x + 0.1 and y1 <= y + 0.1 and x2 >= x + width - 0.1 and y2 >= y + height - 0.1
    np.testing.assert_array_equal(dataset.metainfo['flip_indices'], MIRROR)


def test_same_seed_gives_the_same_bytes(folder, tmp_path):
    assert files(make_toy_data(tmp_path, ['wflw'])[0]) == files(folder)
