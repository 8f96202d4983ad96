# The recipe of PDDR on ImageNet. The authors trained in half precision (--amp) and report the best epoch.
_base_ = [
    '../datasets/imagenet_bs32_wide-crop.py',
    'mmpretrain::_base_/schedules/imagenet_bs256.py',
    '../runtime.py',
]

default_hooks = dict(checkpoint=dict(save_best='accuracy/top1', rule='greater'))
