# Random crops and flips of 32x32 images, scaled to about [-1, 1].
_base_ = 'mmpretrain::_base_/datasets/cifar10_bs16.py'

data_preprocessor = dict(mean=[128.0] * 3, std=[128.0] * 3)
train_dataloader = dict(batch_size=64, dataset=dict(type='reprefine.CIFAR10', data_root='data/cifar10'))
val_dataloader = dict(batch_size=64, dataset=dict(type='reprefine.CIFAR10', data_root='data/cifar10'))
test_dataloader = val_dataloader
val_evaluator = dict(topk=(1, 5))
test_evaluator = val_evaluator
