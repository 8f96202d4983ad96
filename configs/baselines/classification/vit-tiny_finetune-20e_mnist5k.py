# Equal-budget control of DenoiseRep: 20 more epochs from the baseline's checkpoint, at a tenth of its learning rate.
_base_ = [
    '../../_base_/models/vit-tiny_digits.py',
    '../../_base_/datasets/mnist5k.py',
    '../../_base_/schedules/adamw_30e.py',
    '../../_base_/runtime.py',
]

load_from = 'work_dirs/baselines/classification/vit-tiny_mnist5k/epoch_30.pth'
model = dict(backbone=dict(img_size=28, patch_size=4))
optim_wrapper = dict(optimizer=dict(lr=2e-4))
param_scheduler = [dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, end=20, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=20)
