# Linear depth probe on patch features and class token of a frozen ViT, on NYU depth v2, which
# tools/dataset_tools/prepare_nyu.py prepares. Whoever inherits sets the backbone. Batch size for 8 GPUs; on one, take 16.
_base_ = [
    'mmseg::_base_/datasets/nyu.py',
    'mmseg::_base_/schedules/schedule_40k.py',
    'mmseg::_base_/default_runtime.py',
]

custom_imports = dict(imports=['reprefine'], allow_failed_imports=False)
model = dict(
    type='DepthEstimator',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        # Those of ImageNet for every backbone, as published; the backbone's own are its `native`.
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=0,  # no depth
        size=(416, 544),
    ),
    backbone=dict(with_cls_token=True),
    decode_head=dict(
        type='reprefine.LinearDepthHead',
        in_channels=768,
        # The gradient loss had no effect where the published numbers were measured.
        loss_decode=[dict(type='reprefine.SigLoss'), dict(type='reprefine.GradientLoss', loss_weight=0.0)],
    ),
    # One window holds the whole image: the mean over the image and its mirror image.
    test_cfg=dict(mode='slide_flip', crop_size=(480, 640), stride=(480, 640)),
)
# The losses with the usual weight of the second.
with_gradient_loss = [dict(type='reprefine.SigLoss'), dict(type='reprefine.GradientLoss', loss_weight=0.5)]

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadDepthAnnotation', depth_rescale_factor=1e-3),
    dict(type='reprefine.FixedCrop', rows=(45, 472), columns=(43, 608)),
    dict(type='RandomRotate', prob=0.5, degree=2.5, pad_val=0, seg_pad_val=0),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomCrop', crop_size=(416, 544)),
    dict(type='reprefine.RandomColour', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadDepthAnnotation', depth_rescale_factor=1e-3),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(batch_size=2, num_workers=2, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='reprefine.DepthMetric')
test_evaluator = val_evaluator

optim_wrapper = dict(
    _delete_=True,
    optimizer=dict(type='AdamW', lr=5e-3, betas=(0.95, 0.999), weight_decay=0.01),
    clip_grad=dict(max_norm=35.0),
)
# The learning rates multiply; beta1 goes from 0.95 to 0.85 and back. mmengine ends one step before `end`.
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=12801),
    dict(type='CosineAnnealingLR', eta_min=5e-11, T_max=38400, by_epoch=False, begin=0, end=38401),
    dict(type='CosineAnnealingMomentum', eta_min=0.85, T_max=11520, by_epoch=False, begin=0, end=11521),
    dict(type='CosineAnnealingMomentum', eta_min=0.95, T_max=26880, by_epoch=False, begin=11520, end=38401),
]
train_cfg = dict(max_iters=38400, val_interval=800)
default_hooks = dict(checkpoint=dict(interval=9600, max_keep_ckpts=1, save_best='abs_rel', rule='less'))
auto_scale_lr = dict(enable=False, base_batch_size=16)
