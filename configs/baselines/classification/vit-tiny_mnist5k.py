_base_ = [
    '../../_base_/models/vit-tiny_digits.py',
    '../../_base_/datasets/mnist5k.py',
    '../../_base_/schedules/adamw_30e.py',
    '../../_base_/runtime.py',
]

model = dict(backbone=dict(img_size=28, patch_size=4))
