# Equal-budget control of DenoiseRep: 120 more epochs from the official checkpoint, no noise predictor.
# 2 GPUs x 128 images.
_base_ = './swinv2-tiny-w8_16xb64_in1k-256px.py'

# Top-1 accuracy 81.76.
weights = 'https://download.openmmlab.com/mmclassification/v0/swin-v2/'
load_from = weights + 'swinv2-tiny-w8_3rdparty_in1k-256px_20220803-e318968f.pth'
optim_wrapper = dict(
    type='AmpOptimWrapper',
    optimizer=dict(lr=2.5e-5),
    paramwise_cfg=dict(custom_keys=dict(cpb_mlp=dict(decay_mult=0.0), logit_scale=dict(decay_mult=0.0))),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=20, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=2.5e-6, by_epoch=True, begin=20, end=120, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=120)
train_dataloader = dict(batch_size=128)
auto_scale_lr = dict(base_batch_size=256)
