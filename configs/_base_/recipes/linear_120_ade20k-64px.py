# Linear probe on scenes squashed to 64x64 pixels, for a processor; classes are evaluated at the images' own size.
_base_ = 'mmseg::_base_/default_runtime.py'

custom_imports = dict(imports=['reprefine'], allow_failed_imports=False)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[128] * 3,
        std=[64] * 3,
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(64, 64),
    ),
    decode_head=dict(type='reprefine.LinearHead', in_channels=96, num_classes=20),
    test_cfg=dict(mode='whole'),
)
labels = dict(type='LoadAnnotations', reduce_zero_label=True)
resize = dict(type='Resize', scale=(64, 64), keep_ratio=False)
train = [dict(type='LoadImageFromFile'), labels, resize, dict(type='RandomFlip', prob=0.5), dict(type='PackSegInputs')]
test = [dict(type='LoadImageFromFile'), resize, labels, dict(type='PackSegInputs')]
# Classes of the scenes; the digits 0 to 9 represent person to flag.
stuff = ('sky', 'building', 'road', 'tree', 'grass', 'mountain', 'water', 'ceiling', 'wall', 'floor')
things = ('person', 'car', 'chair', 'table', 'lamp', 'box', 'bottle', 'ball', 'clock', 'flag')
scenes = dict(
    type='ADE20KDataset',
    data_root='data/ade/ADEChallengeData2016',
    metainfo=dict(classes=(*stuff, *things)),
)
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'), pipeline=train, **scenes
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'), pipeline=test, **scenes
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-2, weight_decay=1e-4))
param_scheduler = [dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=0, end=120)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=120, val_interval=120)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=120, max_keep_ckpts=1),
    sampler_seed=dict(type='DistSamplerSeedHook'),
)
