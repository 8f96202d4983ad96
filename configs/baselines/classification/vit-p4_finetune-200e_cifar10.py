# Equal-budget control of DenoiseRep: 200 more epochs from the baseline's checkpoint, no noise predictor.
_base_ = [
    '../../_base_/models/vit-p4_cifar10.py',
    '../../_base_/datasets/cifar10_randaugment.py',
    '../../_base_/schedules/adam_300e.py',
    '../../_base_/runtime.py',
]

load_from = 'work_dirs/baselines/classification/vit-p4_300e_cifar10/epoch_300.pth'
optim_wrapper = dict(type='AmpOptimWrapper')
param_scheduler = dict(T_max=200)
train_cfg = dict(max_epochs=200, val_interval=40)
