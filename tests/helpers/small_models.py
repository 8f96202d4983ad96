"""Small models of the OpenMMLab libraries, each of an inherited official config, with a batch and its predictions."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from torch import Tensor, nn

from reprefine.registry import MODELS

MASK_RCNN = """
_base_ = 'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'
model = dict(
    backbone=dict(embed_dims=12, depths=(1, 1, 2, 1), num_heads=(1, 2, 2, 4), window_size=4, init_cfg=None),
    neck=dict(in_channels=[12, 24, 48, 96], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16), mask_roi_extractor=dict(out_channels=16),
        bbox_head=dict(in_channels=16, fc_out_channels=32, num_classes=3),
        mask_head=dict(in_channels=16, conv_out_channels=16, num_classes=3, num_convs=1)),
    test_cfg=dict(rcnn=dict(score_thr=0.0, max_per_img=20)),
)
"""

HEAD = 'num_classes=4, channels=8, norm_cfg=dict(type="BN")'
UPERNET = f"""
_base_ = 'mmseg::_base_/models/upernet_swin.py'
model = dict(
    data_preprocessor=dict(size=(64, 64)),
    backbone=dict(embed_dims=12, depths=[1, 1, 2, 1], num_heads=[1, 2, 2, 4], window_size=4),
    decode_head=dict(in_channels=[12, 24, 48, 96], {HEAD}), auxiliary_head=dict(in_channels=48, {HEAD}))
"""

FCN = f"""
_base_ = 'mmseg::_base_/models/fcn_r50-d8.py'
model = dict(
    pretrained=None, data_preprocessor=dict(size=(64, 64)),
    backbone=dict(depth=18, base_channels=8, stem_channels=8, norm_cfg=dict(type='BN')),
    decode_head=dict(in_channels=64, {HEAD}), auxiliary_head=dict(in_channels=32, {HEAD}))
"""

SEGFORMER = f"""
_base_ = 'mmseg::_base_/models/segformer_mit-b0.py'
model = dict(
    data_preprocessor=dict(size=(64, 64)), backbone=dict(embed_dims=8, num_layers=[1, 1, 1, 1]),
    decode_head=dict(in_channels=[8, 16, 40, 64], {HEAD}))
"""

CLASSIFIER = """
_base_ = 'mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py'
model = dict(
    data_preprocessor=dict(type='ClsDataPreprocessor', num_classes=4),
    backbone=dict(img_size=32, window_size=4, out_indices=(1,),
                  arch=dict(_delete_=True, embed_dims=12, depths=[1, 1], num_heads=[1, 2])),
    head=dict(_delete_=True, type='LinearClsHead', num_classes=4, in_channels=24,
              init_cfg=dict(type='Normal', layer='Linear', std=1.0)),
    init_cfg=None, train_cfg=None)
"""

POSE = """
_base_ = 'mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192.py'
codec = dict(type='MSRAHeatmap', input_size=(64, 64), heatmap_size=(16, 16), sigma=1)
model = dict(
    backbone=dict(depth=18, base_channels=8, stem_channels=8, init_cfg=None),
    head=dict(in_channels=64, deconv_out_channels=(8, 8, 8), decoder=codec), test_cfg=dict(flip_test=False))
"""


def detection_batch() -> dict[str, Any]:
    from mmdet.testing import demo_mm_inputs

    return demo_mm_inputs(2, [[3, 64, 64]] * 2, num_classes=3, with_mask=True)


def segmentation_batch() -> dict[str, Any]:
    from mmseg.structures import SegDataSample

    shape = dict(img_shape=(64, 64), ori_shape=(64, 64), pad_shape=(64, 64), scale_factor=(1.0, 1.0))
    samples = [SegDataSample(metainfo=shape) for _ in range(2)]
    for sample in samples:
        sample.gt_sem_seg = PixelData(data=torch.randint(4, (1, 64, 64)))
    return dict(inputs=random_images(64), data_samples=samples)


def classification_batch() -> dict[str, Any]:
    from mmpretrain.structures import DataSample

    return dict(inputs=random_images(32), data_samples=[DataSample().set_gt_label(label) for label in (0, 3)])


def pose_batch() -> dict[str, Any]:
    from mmpose.testing import get_packed_inputs

    sizes = dict(img_shape=(64, 64), input_size=(64, 64), heatmap_size=(16, 16))
    return get_packed_inputs(2, num_instances=1, with_heatmap=True, **sizes)


def random_images(size: int) -> list[Tensor]:
    return [torch.randint(256, (3, size, size), dtype=torch.uint8) for _ in range(2)]


def detections(sample: Any) -> Tensor:
    found = sample.pred_instances
    masks = torch.as_tensor(np.asarray(found.masks)).flatten(1).float()
    assert len(found) > 4
    return torch.cat([found.bboxes, found.scores[:, None], found.labels[:, None], masks], 1)


def keypoints(sample: Any) -> Tensor:
    return torch.as_tensor(np.asarray(sample.pred_instances.keypoint_scores))


# host library, config, selection, number of layers found, batch, what a sample predicts
HOSTS = {
    'swin classifier': ('mmpretrain', CLASSIFIER, 'mlp', 4, classification_batch, lambda s: s.pred_score),
    'mask r-cnn swin': ('mmdet', MASK_RCNN, 'mlp', 10, detection_batch, detections),
    'upernet swin': ('mmseg', UPERNET, 'mlp', 10, segmentation_batch, lambda s: s.seg_logits.data),
    'fcn, dilated': ('mmseg', FCN, 'conv', 28, segmentation_batch, lambda s: s.seg_logits.data),
    'segformer, depthwise': ('mmseg', SEGFORMER, r'\.ffn\.', 12, segmentation_batch, lambda s: s.seg_logits.data),
    'pose resnet': ('mmpose', POSE, 'conv', 21, pose_batch, keypoints),
}


def stock_config(library: str, text: str) -> dict:
    """The config of the base model; the default scope becomes that of the library."""
    pytest.importorskip(library)
    cfg = Config.fromstring(text, '.py')
    init_default_scope(library)
    return cfg.model


def refined(text: str, kind: str, **options: Any) -> str:
    """The same config with a refinement of its model, the way a user writes it over an inherited one.

    Args:
        text: Config of the base model.
        kind: Type of the refinement.
        **options: Its own options under their key.
    """
    keys = ', '.join(f'{key}={value!r}' for key, value in options.items())
    assert text.count('\nmodel = dict(') == 1
    return text.replace(
        '\nmodel = dict(', f"\nmodel = dict(\n    type='{kind}', base_type={{{{_base_.model.type}}}}, {keys},"
    )


def build_denoised(library: str, text: str, include: str, **options: Any) -> nn.Module:
    """The same model with DenoiseRep."""
    denoise = dict(include=include, **options)
    return MODELS.build(stock_config(library, refined(text, 'reprefine.DenoiseRep', denoise=denoise)))


def predictions(model: nn.Module, batch: dict, read: Any) -> list[Tensor]:
    with torch.no_grad():
        return [read(sample) for sample in model.eval().test_step(copy.deepcopy(batch))]


def distance(first: list[Tensor], second: list[Tensor]) -> float:
    if [a.shape for a in first] != [b.shape for b in second]:
        return math.inf
    return max((a - b).abs().max().item() for a, b in zip(first, second, strict=True))
