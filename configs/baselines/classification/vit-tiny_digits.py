_base_ = [
    '../../_base_/models/vit-tiny_digits.py',
    '../../_base_/datasets/digits.py',
    '../../_base_/schedules/adamw_30e.py',
    '../../_base_/runtime.py',
]
