# The recipe of PDDR on ImageNet: mixed precision, and the best epoch is reported.
_base_ = [
    'mmpretrain::_base_/models/resnet18.py',
    '../../_base_/datasets/imagenet_bs32_wide-crop.py',
    'mmpretrain::_base_/schedules/imagenet_bs256.py',
    '../../_base_/runtime.py',
]

model = dict(backbone=dict(zero_init_residual=False))
optim_wrapper = dict(type='AmpOptimWrapper')
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1', rule='greater'))
