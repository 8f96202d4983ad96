import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmdet.datasets import CocoDataset, VOCDataset
from mmdet.datasets.transforms import LoadAnnotations as LoadBoxes
from mmseg.datasets import PascalVOCDataset
from mmseg.datasets.transforms import LoadAnnotations as LoadSegmentation
from PIL import Image
from toy_data.coco import DIGIT_NAMES
from toy_data.voc import DIGIT_CLASSES, palette

from tests.tools.toy_data.compare import assert_like, files

# Where the scenes of a split stand among those drawn.
COCO_SCENES = dict(train2017=slice(60), val2017=slice(60, 80))
VOC_SCENES = dict(VOC2007=0, VOC2012=52)


@pytest.fixture(scope='module')
def coco(record):
    return record('coco', 'draw_scene')


@pytest.fixture(scope='module')
def voc(record):
    return record('voc', 'draw_scene')


def coco_dataset(root, split, **kwargs):
    return CocoDataset(
        data_root=str(root),
        ann_file=f'annotations/instances_{split}.json',
        data_prefix=dict(img=f'{split}/'),
        pipeline=[LoadImageFromFile(), LoadBoxes(with_bbox=True, with_mask=True)],
        **kwargs,
    )


def voc_dataset(root, year, split, **kwargs):
    return VOCDataset(
        data_root=str(root),
        ann_file=f'{year}/ImageSets/Main/{split}.txt',
        data_prefix=dict(sub_data_root=f'{year}/'),
        **kwargs,
    )


@pytest.mark.parametrize('split', COCO_SCENES)
def test_coco_is_read_as_drawn(coco, split):
    root, scenes = coco
    dataset = coco_dataset(root, split, test_mode=True)
    scenes = scenes[COCO_SCENES[split]]
    assert len(dataset) == len(scenes)
    # The first scene is the one with the crowd.
    for index, scene in enumerate(scenes[1:], 1):
        sample = dataset[index]
        assert_like(sample['img'], scene.image)
        assert [dataset.metainfo['classes'][i] for i in sample['gt_bboxes_labels']] == [
            DIGIT_NAMES[digit] for digit in scene.labels
        ]
        assert np.array_equal(sample['gt_bboxes'].tensor.numpy(), scene.boxes)
        assert np.array_equal(sample['gt_masks'].masks.astype(bool), scene.masks)
        assert not sample['gt_ignore_flags'].any()


@pytest.mark.parametrize('split', COCO_SCENES)
def test_coco_crowd_is_ignored(coco, split):
    root, scenes = coco
    sample = coco_dataset(root, split, test_mode=True)[0]
    masks = scenes[COCO_SCENES[split]][0].masks
    assert len(masks) > 2
    assert sample['gt_ignore_flags'].tolist() == [False, True]
    assert np.array_equal(sample['gt_masks'].masks.astype(bool), [masks[0], masks[1:].any(0)])


def test_coco_fields_are_those_of_the_release(coco):
    root, scenes = coco
    content = {split: json.loads((root / f'annotations/instances_{split}.json').read_text()) for split in COCO_SCENES}
    ids = [image['id'] for part in content.values() for image in part['images']]
    assert len(set(ids)) == 80
    annotations = [annotation for part in content.values() for annotation in part['annotations']]
    assert len({annotation['id'] for annotation in annotations}) == len(annotations)
    for split, part in content.items():
        assert list(part) == ['info', 'licenses', 'images', 'annotations', 'categories']
        assert all(re.fullmatch(r'\d{12}\.jpg', image['file_name']) for image in part['images'])
        assert {image['file_name'] for image in part['images']} == {path.name for path in (root / split).iterdir()}
        annotated = {annotation['image_id'] for annotation in part['annotations']}
        assert len(part['images']) - len(annotated) == len(part['images']) // 10
    areas = [annotation['area'] for annotation in annotations if not annotation['iscrowd']]
    drawn = [
        mask.sum()
        for index, scene in enumerate(scenes)
        for mask in (scene.masks[:1] if index in (0, 60) else scene.masks)
    ]
    assert areas == drawn


def test_coco_categories_are_the_real_ones(coco):
    content = json.loads((coco[0] / 'annotations' / 'instances_val2017.json').read_text())
    categories = content['categories']
    assert tuple(category['name'] for category in categories) == CocoDataset.METAINFO['classes']
    gaps = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    assert [category['id'] for category in categories] == [i for i in range(1, 91) if i not in gaps]
    of = {category['name']: category['supercategory'] for category in categories}
    assert [of[name] for name in ('person', 'boat', 'bench', 'giraffe', 'suitcase', 'kite', 'bowl')] == [
        'person', 'vehicle', 'outdoor', 'animal', 'accessory', 'sports', 'kitchen'
    ]  # fmt: skip
    assert [of[name] for name in ('cake', 'toilet', 'laptop', 'sink', 'vase')] == [
        'food', 'furniture', 'electronic', 'appliance', 'indoor'
    ]  # fmt: skip


@pytest.mark.parametrize(
    ('year', 'split', 'count'), [('VOC2007', 'trainval', 32), ('VOC2007', 'test', 20), ('VOC2012', 'trainval', 40)]
)
def test_voc_boxes_are_read_as_drawn(voc, year, split, count):
    root, scenes = voc
    dataset = voc_dataset(root, year, split, test_mode=True, pipeline=[LoadImageFromFile()])
    assert len(dataset) == count
    for sample in dataset:
        scene = scenes[VOC_SCENES[year] + int(sample['img_id'][-6:]) - 1]
        assert_like(sample['img'], scene.image)
        assert (sample['height'], sample['width']) == scene.image.shape[:2]
        boxes = np.array([instance['bbox'] for instance in sample['instances']])
        # The host keeps the last column and row inside the box.
        assert np.array_equal(boxes, scene.boxes - [0, 0, 1, 1])
        names = [dataset.metainfo['classes'][instance['bbox_label']] for instance in sample['instances']]
        assert names == [DIGIT_CLASSES[digit] for digit in scene.labels]


def test_voc_training_ignores_difficult_objects_only(voc):
    root = voc[0]
    filters = dict(filter_empty_gt=True, min_size=32, bbox_min_size=32)
    ignored = 0
    for year in VOC_SCENES:
        dataset = voc_dataset(root, year, 'trainval', filter_cfg=filters)
        samples = [dataset.get_data_info(index) for index in range(len(dataset))]
        assert len(samples) == len((root / year / 'ImageSets' / 'Main' / 'trainval.txt').read_text().split())
        ignored += sum(instance['ignore_flag'] for sample in samples for instance in sample['instances'])
        difficult = [
            int(flag.text) for sample in samples for flag in ET.parse(sample['xml_path']).iterfind('object/difficult')
        ]
        ignored -= sum(difficult)
        assert 0 < sum(difficult) < len(difficult) / 5
    assert ignored == 0


@pytest.mark.parametrize('year', VOC_SCENES)
@pytest.mark.parametrize('split', ['train', 'val'])
def test_voc_segmentation_is_read_as_drawn(voc, year, split):
    root, scenes = voc
    dataset = PascalVOCDataset(
        data_root=str(root / year),
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
        ann_file=f'ImageSets/Segmentation/{split}.txt',
        pipeline=[LoadSegmentation()],
    )
    assert len(dataset) > 8
    for sample in dataset:
        name = sample['img_path'][-10:-4]
        scene = scenes[VOC_SCENES[year] + int(name) - 1]
        classes = sample['gt_seg_map']
        objects = np.array(Image.open(sample['seg_map_path'].replace('SegmentationClass', 'SegmentationObject')))
        expected = np.zeros_like(classes)
        for digit, mask in zip(scene.labels, scene.masks, strict=True):
            expected[mask] = PascalVOCDataset.METAINFO['classes'].index(DIGIT_CLASSES[digit])
        drawn = scene.masks.any(0)
        assert np.array_equal(classes[drawn], expected[drawn])
        assert set(np.unique(classes[~drawn])) == {0, 255}
        assert all(set(objects[mask]) == {index} for index, mask in enumerate(scene.masks, 1))
        assert np.array_equal(objects == 255, classes == 255)
        xml = ET.parse(root / year / 'Annotations' / sample['img_path'].split('/')[-1].replace('jpg', 'xml'))
        assert xml.findtext('segmented') == '1'


def test_voc_lists_divide_the_images(voc):
    root = voc[0]
    for year in VOC_SCENES:
        lists = {path.stem: path.read_text().split() for path in (root / year / 'ImageSets' / 'Main').iterdir()}
        assert lists['trainval'] == sorted(lists['train'] + lists['val'])
        images = sorted(path.stem for path in (root / year / 'JPEGImages').iterdir())
        assert sorted(lists['trainval'] + lists.get('test', [])) == images
        masks = sorted(path.stem for path in (root / year / 'SegmentationClass').iterdir())
        listed = [
            (root / year / 'ImageSets' / 'Segmentation' / f'{split}.txt').read_text().split()
            for split in lists
            if split != 'trainval'
        ]
        assert sorted(sum(listed, [])) == masks
        assert 0 < len(masks) < len(images)
    assert lists.keys() == {'train', 'val', 'trainval'}
    assert all(re.fullmatch(r'20(07|08|09|10|11|12)_\d{6}', name) for name in images)


def test_voc_palette_is_the_hosts(voc):
    assert palette()[:21].tolist() == PascalVOCDataset.METAINFO['palette']
    assert palette()[255].tolist() == [224, 224, 192]
    mask = Image.open(next((voc[0] / 'VOC2012' / 'SegmentationClass').iterdir()))
    assert mask.mode == 'P'
    assert mask.getpalette() == palette().ravel().tolist()


@pytest.mark.parametrize('name', ['coco', 'voc'])
def test_bytes_are_the_same_again(request, toy, name):
    assert files(request.getfixturevalue(name)[0]) == files(toy(name))
