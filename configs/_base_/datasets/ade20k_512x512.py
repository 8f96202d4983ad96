# ADE20K: 20210 training images; batch size for 8 GPUs, on one take 16.
_base_ = 'mmseg::_base_/datasets/ade20k.py'

num_classes = 150
train_dataloader = dict(batch_size=2, num_workers=2)
