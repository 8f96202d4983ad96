# A linear classifier on a frozen network: here of random weights, the floor of every probe.
_base_ = [
    'mmpretrain::_base_/models/resnet18_cifar.py',
    '../../_base_/datasets/cifar10.py',
    '../../_base_/schedules/sgd_200e_small-images.py',
    '../../_base_/runtime.py',
]

model = dict(backbone=dict(frozen_stages=4, norm_eval=True))
optim_wrapper = dict(optimizer=dict(lr=0.4, weight_decay=0.0, nesterov=False))
param_scheduler = dict(_delete_=True, type='CosineAnnealingLR', T_max=100, by_epoch=True)
train_cfg = dict(max_epochs=100)
auto_scale_lr = dict(base_batch_size=64)
custom_hooks = [dict(type='EMAHook', momentum=0.001, priority='ABOVE_NORMAL')]
