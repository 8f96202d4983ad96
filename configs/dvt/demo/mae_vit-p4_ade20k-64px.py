# Masked auto-encoder of the demonstration's small ViT on scenes of digits.
_base_ = ['../_base_/mae_vit-p4_64px.py', '../../_base_/runtime.py']

views = [dict(type='RandomResizedCrop', scale=64, crop_ratio_range=(0.1, 1.0)), dict(type='RandomFlip', prob=0.5)]
pipeline = [dict(type='LoadImageFromFile'), *views, dict(type='PackInputs')]
images = dict(data_root='data/ade/ADEChallengeData2016', data_prefix='images/training', with_label=False)
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    persistent_workers=False,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(type='CustomDataset', pipeline=pipeline, **images),
)
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=200),
    dict(type='CosineAnnealingLR', T_max=4000, eta_min=1e-5, by_epoch=False, end=4000),
]
train_cfg = dict(by_epoch=False, max_iters=4000)
log_processor = dict(by_epoch=False)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=500))
