# The denoiser of the small ViT, on the CPU, from features of either solver.
_base_ = '../_base_/denoiser_8xb8-100k.py'

model = dict(neck=dict(in_channels=96, num_heads=3, grid=16))
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(model_id='vit_tiny_patch16_224', made_with=None),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [dict(type='reprefine.DenoiserLR', total=300)]
train_cfg = dict(max_iters=300)
default_hooks = dict(checkpoint=dict(interval=150))
