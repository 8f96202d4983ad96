# Linear probe: a linear classifier on the last feature map of a frozen ViT. Whoever inherits sets backbone and classes.
_base_ = ['mmseg::_base_/schedules/schedule_40k.py', 'mmseg::_base_/default_runtime.py']

custom_imports = dict(imports=['reprefine'], allow_failed_imports=False)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        # Those of ImageNet for every backbone, as published; the backbone's own are its `native`.
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(512, 512),
    ),
    decode_head=dict(type='reprefine.LinearHead', in_channels=768),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)
optim_wrapper = dict(_delete_=True, optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=1e-4))
# Both run from the start and multiply. mmengine reaches the final value one step before `end`.
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1501),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=0, end=40001),
]
train_cfg = dict(val_interval=10000)
default_hooks = dict(checkpoint=dict(interval=10000, max_keep_ckpts=1, save_best='mIoU'))
auto_scale_lr = dict(enable=False, base_batch_size=16)
