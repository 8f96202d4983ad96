_base_ = [
    '../../_base_/models/vit-p4_cifar10.py',
    '../../_base_/datasets/cifar10_randaugment.py',
    '../../_base_/schedules/adam_300e.py',
    '../../_base_/runtime.py',
]
