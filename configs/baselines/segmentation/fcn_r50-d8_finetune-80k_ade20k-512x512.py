# Equal-budget control of DenoiseRep: 80k more iterations from the official checkpoint, no noise predictor.
_base_ = './fcn_r50-d8_4xb4-160k_ade20k-512x512.py'

# mIoU 36.10.
weights = 'https://download.openmmlab.com/mmsegmentation/v0.5/fcn/fcn_r50-d8_512x512_160k_ade20k/'
load_from = weights + 'fcn_r50-d8_512x512_160k_ade20k_20200615_100713-4edbc3b4.pth'
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [dict(type='PolyLR', eta_min=1e-5, power=0.9, begin=0, end=80000, by_epoch=False)]
train_cfg = dict(max_iters=80000, val_interval=8000)
default_hooks = dict(checkpoint=dict(interval=8000, max_keep_ckpts=2))
