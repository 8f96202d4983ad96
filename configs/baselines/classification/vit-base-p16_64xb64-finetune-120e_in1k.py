# Equal-budget control of DenoiseRep: 120 more epochs from the baseline's checkpoint, no noise predictor.
_base_ = './vit-base-p16_64xb64_in1k.py'

load_from = 'work_dirs/baselines/classification/vit-base-p16_64xb64_in1k/epoch_300.pth'
optim_wrapper = dict(optimizer=dict(lr=3e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=20, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=3e-5, by_epoch=True, begin=20, end=120, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=120)
