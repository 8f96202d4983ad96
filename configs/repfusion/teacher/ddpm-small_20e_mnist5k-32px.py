_base_ = [
    '../_base_/unet-small_32px.py',
    '../../_base_/datasets/mnist5k_32px.py',
    '../_base_/diffusion_teacher.py',
]

model = dict(unet=_base_.unet)
val_evaluator = dict(_delete_=True, type='reprefine.DenoisingError')
test_evaluator = dict(_delete_=True, type='reprefine.DenoisingError')
train_dataloader = dict(batch_size=32)
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.0), clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=200),
    dict(type='CosineAnnealingLR', T_max=20, eta_min=1e-5, by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=20, val_interval=5)
default_hooks = dict(checkpoint=dict(interval=5))
# 1,880 steps: the average spans the last 200 or so.
averaging = dict(_base_.averaging, momentum=0.005)
custom_hooks = [averaging, *_base_.teacher_hooks]
