# Faster R-CNN on the simple pyramid of ViTDet over a frozen ViT with patches of 16; VOC2007+2012, tested on VOC2007.
# The base config of the published runs was not released: anchors, losses, samplers and thresholds are mmdet's.
_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    'mmdet::_base_/datasets/voc0712.py',
    'mmdet::_base_/default_runtime.py',
]

custom_imports = dict(imports=['reprefine'], allow_failed_imports=False)
norm_cfg = dict(type='reprefine.LN2d', eps=1e-6)
model = dict(
    # Two patches, so that the halved map ends where the image does.
    data_preprocessor=dict(pad_size_divisor=32),
    backbone=dict(_delete_=True),
    neck=dict(_delete_=True, type='reprefine.SimpleFPN', in_channels=768),
    rpn_head=dict(num_convs=2),
    roi_head=dict(bbox_head=dict(type='Shared4Conv1FCBBoxHead', norm_cfg=norm_cfg, num_classes=20)),
)
# What follows from patches of 14; the anchors of the published runs are not known.
_strides = [3.5, 7, 14, 28, 56]
patches_of_14 = dict(
    data_preprocessor=dict(pad_size_divisor=28),
    rpn_head=dict(anchor_generator=dict(strides=_strides)),
    roi_head=dict(bbox_roi_extractor=dict(featmap_strides=_strides[:4])),
)

resize = dict(type='Resize', scale=(512, 512), keep_ratio=True)
labels = dict(type='LoadAnnotations', with_bbox=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    labels,
    resize,
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    resize,
    labels,  # boxes in the original image
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
trainval = dict(
    type='VOCDataset',
    data_root=_base_.data_root,
    filter_cfg=dict(filter_empty_gt=True, min_size=32),
    pipeline=train_pipeline,
)
year_2007 = dict(ann_file='VOC2007/ImageSets/Main/trainval.txt', data_prefix=dict(sub_data_root='VOC2007/'))
year_2012 = dict(ann_file='VOC2012/ImageSets/Main/trainval.txt', data_prefix=dict(sub_data_root='VOC2012/'))
train_dataloader = dict(
    batch_size=2,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        ignore_keys=['dataset_type'],
        datasets=[dict(**trainval, **year_2007), dict(**trainval, **year_2012)],
    ),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
# Average precision at IoU 0.50 and the 11 recalls of VOC2007.
val_evaluator = dict(type='reprefine.VOCAveragePrecision')
test_evaluator = val_evaluator

optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.1))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=100),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=24000, milestones=[20000, 22000], gamma=0.1),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=24000, val_interval=4000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=4000, max_keep_ckpts=1))
log_processor = dict(by_epoch=False)
auto_scale_lr = dict(enable=False, base_batch_size=16)
