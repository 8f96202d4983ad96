# Two operations of RandAugment at level 14 of 30, then random crops and flips.
_base_ = 'mmpretrain::_base_/datasets/cifar10_bs16.py'

train_pipeline = [
    dict(
        type='RandAugment',
        policies='timm_increasing',
        num_policies=2,
        magnitude_level=14,
        total_level=30,
    ),
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=512, dataset=dict(type='reprefine.CIFAR10', data_root='data/cifar10', pipeline=train_pipeline)
)
val_dataloader = dict(batch_size=512, dataset=dict(type='reprefine.CIFAR10', data_root='data/cifar10'))
test_dataloader = val_dataloader
