# Equal-budget control of DenoiseRep: 20 more epochs from the baseline's checkpoint, no denoiser.
_base_ = [
    '../../_base_/models/vit-tiny_digits.py',
    '../../_base_/datasets/digits.py',
    '../../_base_/schedules/adamw_finetune_20e.py',
    '../../_base_/runtime.py',
]

load_from = 'work_dirs/baselines/classification/vit-tiny_digits/epoch_30.pth'
