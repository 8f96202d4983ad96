# The network of google/ddpm-cifar10-32 in the schedule of its paper, 800,000 steps of 128 images.
_base_ = [
    '../_base_/unet_cifar10-32px.py',
    '../../_base_/datasets/cifar10.py',
    '../_base_/diffusion_teacher.py',
]

model = dict(unet=_base_.unet)
train_dataloader = dict(batch_size=128)
val_evaluator = dict(_delete_=True, type='reprefine.DenoisingError')
test_evaluator = dict(_delete_=True, type='reprefine.DenoisingError')
optim_wrapper = dict(optimizer=dict(type='Adam', lr=2e-4), clip_grad=dict(max_norm=1.0))
param_scheduler = [dict(type='LinearLR', start_factor=0.001, by_epoch=False, end=5000)]
train_cfg = dict(by_epoch=True, max_epochs=2048, val_interval=64)
default_hooks = dict(checkpoint=dict(interval=64))
