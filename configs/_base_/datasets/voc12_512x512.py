# VOC2012: 1464 training images; batch size for 8 GPUs, on one take 16.
_base_ = 'mmseg::_base_/datasets/pascal_voc12.py'

num_classes = 21
train_dataloader = dict(batch_size=2, num_workers=2)
