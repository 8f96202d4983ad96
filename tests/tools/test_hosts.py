"""tools/train.py and tools/test.py over official configs of the other host libraries."""

import json
import pickle

import pytest

from tests.helpers.run import run_test, run_train
from tests.helpers.tiny_hosts import write_config, write_images

DETECTOR = """
_base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'
model = dict(
    backbone=dict(init_cfg=None, base_channels=16, stem_channels=16),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=32),
    bbox_head=dict(num_classes=2, in_channels=32, feat_channels=32), test_cfg=dict(score_thr=0.0),
)
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(64, 48), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
dataset = dict(
    data_root='{root}', metainfo=dict(classes=('square', 'disc')), ann_file='coco.json',
    data_prefix=dict(img='images/'), pipeline=pipeline,
)
train_dataloader = dict(num_workers=0, dataset=dataset)
val_dataloader = dict(num_workers=0, dataset=dataset)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='{root}/coco.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1)
"""

SEGMENTOR = """
_base_ = 'mmseg::fcn/fcn_r18-d8_4xb2-80k_cityscapes-512x1024.py'
model = dict(
    pretrained=None, data_preprocessor=dict(size=(48, 64)), backbone=dict(base_channels=16, stem_channels=16),
    decode_head=dict(num_classes=3, in_channels=128, channels=32),
    auxiliary_head=dict(num_classes=3, in_channels=64, channels=16),
)
pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='TestTimeAug', transforms=[
        [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
        [dict(type='LoadAnnotations')],
        [dict(type='PackSegInputs')],
    ]),
]
dataset = dict(
    _delete_=True, type='BaseSegDataset', data_root='{root}', metainfo=dict(classes=('background', 'square', 'disc')),
    img_suffix='.png', data_prefix=dict(img_path='images', seg_map_path='masks'), pipeline=pipeline,
)
train_dataloader = dict(num_workers=0, dataset=dataset)
val_dataloader = dict(num_workers=0, dataset=dataset)
test_dataloader = val_dataloader
visualizer = dict(alpha=0.5)
train_cfg = dict(max_iters=2, val_interval=2)
default_hooks = dict(checkpoint=dict(interval=2))
"""

POSE = """
_base_ = 'mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192.py'
codec = dict(type='MSRAHeatmap', input_size=(32, 32), heatmap_size=(8, 8), sigma=1)
model = dict(
    backbone=dict(depth=18, init_cfg=None, base_channels=16, stem_channels=16),
    head=dict(in_channels=128, deconv_out_channels=(32, 32, 32), decoder=codec),
)
pipeline = [
    dict(type='LoadImage'), dict(type='GetBBoxCenterScale'), dict(type='TopdownAffine', input_size=(32, 32)),
    dict(type='GenerateTarget', encoder=codec), dict(type='PackPoseInputs'),
]
dataset = dict(
    data_root='{root}', ann_file='pose.json', data_prefix=dict(img='images/'), bbox_file=None, pipeline=pipeline
)
train_dataloader = dict(num_workers=0, batch_size=2, dataset=dataset)
val_dataloader = dict(num_workers=0, dataset=dataset)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='{root}/pose.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1, val_interval=1)
default_hooks = dict(checkpoint=dict(save_best=None))
"""

# config, checkpoint, a metric, further flags of test.py
CASES = {
    'mmdet': (DETECTOR, 'epoch_1.pth', 'coco/bbox_mAP', ('--tta',)),
    'mmseg': (SEGMENTOR, 'iter_2.pth', 'mIoU', ('--tta',)),
    'mmpose': (POSE, 'epoch_1.pth', 'coco/AP', ()),
}


@pytest.mark.parametrize('library', CASES)
def test_trains_and_tests(library, tmp_path):
    pytest.importorskip(library)
    text, checkpoint, metric, flags = CASES[library]
    write_images(tmp_path)
    config, run = write_config(tmp_path, text), tmp_path / 'run'
    assert run_train(config, '--work-dir', str(run)) == 0

    metrics, predictions, drawn = run / 'm.json', run / 'p.pkl', run / 'drawn'
    argv = (config, str(run / checkpoint), '--work-dir', str(run))
    assert run_test(*argv, '--out', str(metrics), '--dump', str(predictions), '--show-dir', str(drawn), *flags) == 0
    assert metric in json.loads(metrics.read_text())
    assert len(pickle.loads(predictions.read_bytes())) == 4
    assert len([path for path in drawn.rglob('*') if path.suffix in ('.png', '.jpg')]) == 4
