"""The smallest config of each OpenMMLab library over the scenes of tests/helpers/tiny_hosts.py."""

COMMON = """
custom_imports = dict(imports=['reprefine'], allow_failed_imports=False)
randomness = dict(seed=0)
visualizer = dict(type='Visualizer', vis_backends=[])
custom_hooks = []
default_hooks = dict(
    timer=dict(type='IterTimerHook'), logger=dict(type='LoggerHook'), param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1), sampler_seed=dict(type='DistSamplerSeedHook'),
)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.001))
train_cfg = dict(by_epoch=True, max_epochs=1)
loader = dict(
    batch_size=2, num_workers=0, drop_last=True, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dataset,
)
train_dataloader = loader
val_dataloader = test_dataloader = None
val_cfg = test_cfg = None
val_evaluator = test_evaluator = None
"""

CLASSIFIER = """
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier', data_preprocessor=dict(num_classes=2),
    backbone=dict(type='ResNet', depth=18, base_channels=4, stem_channels=4),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=32),
)
pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(16, 16)), dict(type='PackInputs')]
dataset = dict(type='CustomDataset', data_root='{root}', data_prefix='train', pipeline=pipeline)
"""

DETECTOR = """
default_scope = 'mmdet'
model = dict(
    type='FCOS',
    data_preprocessor=dict(type='DetDataPreprocessor', pad_size_divisor=32),
    backbone=dict(type='ResNet', depth=18, base_channels=4, num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1),
                  out_indices=(1, 2)),
    neck=dict(type='FPN', in_channels=[8, 16], out_channels=8, num_outs=2),
    bbox_head=dict(
        type='FCOSHead', num_classes=2, in_channels=8, feat_channels=8, stacked_convs=1, strides=[8, 16],
        norm_cfg=None, regress_ranges=((-1, 32), (32, 1e8)),
    ),
    test_cfg=dict(nms_pre=10, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5), max_per_img=5),
)
pipeline = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(64, 48), keep_ratio=True), dict(type='PackDetInputs'),
]
dataset = dict(
    type='CocoDataset', data_root='{root}', metainfo=dict(classes=('square', 'disc')), ann_file='coco.json',
    data_prefix=dict(img='images/'), filter_cfg=dict(filter_empty_gt=True, min_size=0), pipeline=pipeline,
)
"""

SEGMENTOR = """
default_scope = 'mmseg'
model = dict(
    type='EncoderDecoder', data_preprocessor=dict(type='SegDataPreProcessor', size=(32, 32), seg_pad_val=255),
    backbone=dict(type='ResNet', depth=18, base_channels=4, stem_channels=4),
    decode_head=dict(
        type='FCNHead', in_channels=32, channels=4, num_convs=1, num_classes=3, norm_cfg=None, in_index=3,
    ),
    train_cfg=dict(), test_cfg=dict(mode='whole'),
)
pipeline = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='RandomCrop', crop_size=(32, 32)),
    dict(type='PackSegInputs'),
]
dataset = dict(
    type='BaseSegDataset', data_root='{root}', metainfo=dict(classes=('background', 'square', 'disc')),
    img_suffix='.png', data_prefix=dict(img_path='images', seg_map_path='masks'), pipeline=pipeline,
)
"""

POSE = """
default_scope = 'mmpose'
codec = dict(type='MSRAHeatmap', input_size=(32, 32), heatmap_size=(8, 8), sigma=1)
model = dict(
    type='TopdownPoseEstimator', data_preprocessor=dict(type='PoseDataPreprocessor'),
    backbone=dict(type='ResNet', depth=18),
    head=dict(
        type='HeatmapHead', in_channels=512, out_channels=17, deconv_out_channels=(4, 4, 4),
        deconv_kernel_sizes=(4, 4, 4), loss=dict(type='KeypointMSELoss', use_target_weight=True), decoder=codec,
    ),
)
pipeline = [
    dict(type='LoadImage'), dict(type='GetBBoxCenterScale'), dict(type='TopdownAffine', input_size=(32, 32)),
    dict(type='GenerateTarget', encoder=codec), dict(type='PackPoseInputs'),
]
dataset = dict(
    type='CocoDataset', data_mode='topdown', data_root='{root}', ann_file='pose.json',
    data_prefix=dict(img='images/'), pipeline=pipeline,
)
"""

CONFIGS = {
    library: text + COMMON
    for library, text in {'mmpretrain': CLASSIFIER, 'mmdet': DETECTOR, 'mmseg': SEGMENTOR, 'mmpose': POSE}.items()
}
