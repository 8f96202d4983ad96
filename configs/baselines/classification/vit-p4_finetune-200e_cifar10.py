# Equal-budget control of DenoiseRep: 200 more epochs from the baseline's checkpoint, no denoiser.
_base_ = './vit-p4_300e_cifar10.py'

load_from = 'work_dirs/baselines/classification/vit-p4_300e_cifar10/epoch_300.pth'
optim_wrapper = dict(type='AmpOptimWrapper')
param_scheduler = dict(T_max=200)
train_cfg = dict(max_epochs=200, val_interval=40)
