# Linear probe on ADE20K: 20210 training images; batch size for 8 GPUs, on one take 16.
_base_ = [
    '../models/linear-segmentor.py',
    'mmseg::_base_/datasets/ade20k.py',
    '../schedules/adamw_linear-seg_40k.py',
    'mmseg::_base_/default_runtime.py',
    '../reprefine.py',
]

model = dict(decode_head=dict(num_classes=150))
train_dataloader = dict(batch_size=2, num_workers=2)
