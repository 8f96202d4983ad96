# Equal-budget control of DenoiseRep: 80k more iterations from the official checkpoint, no noise predictor.
_base_ = './segformer_mit-b1_8xb2-160k_ade20k-512x512.py'

# mIoU 40.97.
weights = 'https://download.openmmlab.com/mmsegmentation/v0.5/segformer/segformer_mit-b1_512x512_160k_ade20k/'
load_from = weights + 'segformer_mit-b1_512x512_160k_ade20k_20210726_112106-d70e859d.pth'
optim_wrapper = dict(optimizer=dict(lr=6e-6))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=1500, end=80000, by_epoch=False),
]
train_cfg = dict(max_iters=80000, val_interval=8000)
default_hooks = dict(checkpoint=dict(interval=8000, max_keep_ckpts=2))
