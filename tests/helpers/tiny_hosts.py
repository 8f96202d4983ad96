"""Tiny datasets and configs of the four OpenMMLab libraries, written into a given folder."""

import json
from pathlib import Path

import cv2
import numpy as np

IMAGE = (48, 64)  # height, width

CLASSIFIER = """
default_scope = 'mmpretrain'
custom_imports = dict(imports=['reprefine'], allow_failed_imports=False)
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(40, 32)),
    dict(type='RandomFlip', prob=1.0),
    dict(type='PackInputs'),
]
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(num_classes=2, mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        type='ResNet', depth=18, base_channels=8, stem_channels=8,
        init_cfg=dict(type='Pretrained', checkpoint='absent.pth'),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=64, loss=dict(type='CrossEntropyLoss')),
)
train_dataloader = dict(
    batch_size=2, num_workers=2, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='CustomDataset', data_root='{root}', data_prefix='train', with_label=True, pipeline=pipeline),
)
val_dataloader = train_dataloader
test_dataloader = train_dataloader
val_evaluator = dict(type='Accuracy')
test_evaluator = val_evaluator
train_cfg = dict(by_epoch=True, max_epochs=10)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
param_scheduler = dict(type='CosineAnnealingLR', T_max=10, eta_min=0.0, by_epoch=True)
visualizer = dict(type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
"""

DETECTOR = """
_base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'
custom_imports = dict(imports=['reprefine'], allow_failed_imports=False)
model = dict(
    backbone=dict(base_channels=16, stem_channels=16), neck=dict(in_channels=[16, 32, 64, 128], out_channels=32),
    bbox_head=dict(num_classes=2, in_channels=32, feat_channels=32, stacked_convs=1),
)
metainfo = dict(classes=('square', 'disc'), palette=[(220, 20, 60), (0, 120, 255)])
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(128, 96), keep_ratio=True),
    dict(type='RandomFlip', prob=1.0),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(
    batch_size=2,
    dataset=dict(
        data_root='{root}', metainfo=metainfo, ann_file='coco.json', data_prefix=dict(img='images/'), pipeline=pipeline
    ),
)
"""

SEGMENTOR = """
_base_ = 'mmseg::bisenetv1/bisenetv1_r18-d32_4xb4-160k_cityscapes-1024x1024.py'
custom_imports = dict(imports=['reprefine'], allow_failed_imports=False)
model = dict(
    data_preprocessor=dict(size=(64, 64)),
    backbone=dict(
        context_channels=(32, 64, 128), spatial_channels=(16, 16, 16, 32), out_channels=64,
        backbone_cfg=dict(base_channels=16, stem_channels=16),
    ),
    decode_head=dict(in_channels=64, channels=64),
    auxiliary_head=[dict(
        type='FCNHead', in_channels=32, channels=16, num_convs=1, num_classes=19, in_index=index, concat_input=False,
    ) for index in (1, 2)],
)
metainfo = dict(classes=('background', 'square', 'disc'), palette=[[0, 0, 0], [220, 20, 60], [0, 120, 255]])
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomFlip', prob=1.0),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    dataset=dict(
        _delete_=True, type='BaseSegDataset', data_root='{root}', metainfo=metainfo, img_suffix='.png',
        data_prefix=dict(img_path='images', seg_map_path='masks'), pipeline=pipeline,
    )
)
"""

POSE = """
_base_ = 'mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192.py'
custom_imports = dict(imports=['reprefine'], allow_failed_imports=False)
model = dict(
    backbone=dict(depth=18, base_channels=16, stem_channels=16),
    head=dict(in_channels=128, deconv_out_channels=(16, 16, 16)),
)
train_dataloader = dict(
    batch_size=2,
    dataset=dict(data_root='{root}', ann_file='pose.json', data_prefix=dict(img='images/')),
)
"""

CONFIGS = {'mmpretrain': CLASSIFIER, 'mmdet': DETECTOR, 'mmseg': SEGMENTOR, 'mmpose': POSE}


def write_config(folder: Path, text: str, name: str = 'tiny.py') -> str:
    """Write a config whose data lie in ``folder``; return its path."""
    path = folder / name
    path.write_text(text.replace('{root}', str(folder)))
    return str(path)


def write_images(folder: Path, count: int = 4) -> None:
    """Write ``count`` scenes, each a red square and a blue disc, with every library's annotation."""
    images, boxes, poses = [], [], []
    for index in range(count):
        image, mask, corners = _scene(index)
        _write(folder / 'images' / f'{index}.png', image)
        _write(folder / 'masks' / f'{index}.png', mask)
        _write(folder / 'train' / f'class{index % 2}' / f'{index}.png', image)
        images.append(dict(id=index, file_name=f'{index}.png', height=IMAGE[0], width=IMAGE[1]))
        for category, box in enumerate(corners):
            annotation = dict(
                id=len(boxes), image_id=index, category_id=category, bbox=box, area=box[2] * box[3], iscrowd=0
            )
            boxes.append(annotation)
        poses.append(_pose(index, corners[0]))
    categories = [dict(id=0, name='square'), dict(id=1, name='disc')]
    _dump(folder / 'coco.json', images, boxes, categories)
    _dump(folder / 'pose.json', images, poses, [dict(id=1, name='person')])


def _scene(index: int) -> tuple[np.ndarray, np.ndarray, list[list[int]]]:
    image = np.full((*IMAGE, 3), 200, np.uint8)
    mask = np.zeros(IMAGE, np.uint8)
    x = 4 + index
    cv2.rectangle(image, (x, 6), (x + 19, 25), (0, 0, 255), -1)
    cv2.rectangle(mask, (x, 6), (x + 19, 25), 1, -1)
    cv2.circle(image, (48, 30), 10, (255, 0, 0), -1)
    cv2.circle(mask, (48, 30), 10, 2, -1)
    return image, mask, [[x, 6, 20, 20], [38, 20, 21, 21]]


def _pose(index: int, box: list[int]) -> dict:
    points = [[box[0] + i, box[1] + i, 2] for i in range(17)]
    return dict(
        id=index,
        image_id=index,
        category_id=1,
        bbox=box,
        area=400,
        iscrowd=0,
        num_keypoints=17,
        keypoints=sum(points, []),
    )


def _write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def _dump(path: Path, images: list, annotations: list, categories: list) -> None:
    path.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))
