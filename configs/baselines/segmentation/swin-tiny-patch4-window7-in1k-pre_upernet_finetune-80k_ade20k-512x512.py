# Equal-budget control of DenoiseRep: 80k more iterations from the official checkpoint, no noise predictor.
_base_ = './swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py'

# mIoU 44.41.
name = 'upernet_swin_tiny_patch4_window7_512x512_160k_ade20k_pretrain_224x224_1K'
weights = f'https://download.openmmlab.com/mmsegmentation/v0.5/swin/{name}/'
load_from = weights + f'{name}_20210531_112542-e380ad3e.pth'
optim_wrapper = dict(optimizer=dict(lr=6e-6))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=1500, end=80000, by_epoch=False),
]
train_cfg = dict(max_iters=80000, val_interval=8000)
default_hooks = dict(checkpoint=dict(interval=8000, max_keep_ckpts=2))
