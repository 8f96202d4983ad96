_base_ = [
    'mmpretrain::_base_/models/resnet18_cifar.py',
    '../../_base_/datasets/tiny-imagenet.py',
    '../../_base_/schedules/sgd_200e_small-images.py',
    '../../_base_/runtime.py',
]
model = dict(head=dict(num_classes=200))
