# Linear probe on VOC2012: 1464 training images; batch size for 8 GPUs, on one take 16.
_base_ = [
    '../models/linear-segmentor.py',
    'mmseg::_base_/datasets/pascal_voc12.py',
    '../schedules/adamw_linear-seg_40k.py',
    'mmseg::_base_/default_runtime.py',
    '../reprefine.py',
]

model = dict(decode_head=dict(num_classes=21))
train_dataloader = dict(batch_size=2, num_workers=2)
