# The schedule that small students are trained with on CIFAR-10 and Tiny-ImageNet.
_base_ = 'mmpretrain::_base_/schedules/cifar10_bs128.py'

train_cfg = dict(val_interval=5)
