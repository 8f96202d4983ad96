_base_ = [
    '../../_base_/models/wrn-28-2-cifar.py',
    '../../_base_/datasets/tiny-imagenet.py',
    '../../_base_/schedules/sgd_200e_small-images.py',
    '../../_base_/runtime.py',
]
model = dict(head=dict(num_classes=200))
