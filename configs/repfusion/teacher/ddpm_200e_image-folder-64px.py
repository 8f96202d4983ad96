# Any folder of images, its sub-folders included: --cfg-options train_dataloader.dataset.data_root=DIR, or --data-root.
_base_ = [
    '../_base_/unet_64px.py',
    '../_base_/image-folder_64px.py',
    '../_base_/diffusion_teacher.py',
]

model = dict(unet=_base_.unet, data_preprocessor=dict(bgr_to_rgb=True))
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.0), clip_grad=dict(max_norm=1.0))
param_scheduler = [dict(type='LinearLR', start_factor=0.001, by_epoch=False, end=1000)]
train_cfg = dict(by_epoch=True, max_epochs=200, val_interval=10)
default_hooks = dict(checkpoint=dict(interval=10))
