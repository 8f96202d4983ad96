# Masked auto-encoder of a small ViT on scenes of 64x64 pixels: 256 patches of 4x4, six blocks of width 96.
_base_ = '../../_base_/runtime.py'

arch = dict(embed_dims=96, num_layers=6, num_heads=3, feedforward_channels=384)
decoder = dict(num_patches=256, patch_size=4, decoder_embed_dim=64, decoder_depth=2, decoder_num_heads=2)
loss = dict(type='PixelReconstructionLoss', criterion='L2')
model = dict(
    type='MAE',
    data_preprocessor=dict(type='SelfSupDataPreprocessor', mean=[128] * 3, std=[64] * 3, to_rgb=True),
    backbone=dict(type='MAEViT', arch=arch, img_size=64, patch_size=4, mask_ratio=0.75),
    neck=dict(type='MAEPretrainDecoder', embed_dim=96, **decoder),
    head=dict(type='MAEPretrainHead', norm_pix=True, patch_size=4, loss=loss),
)
views = [dict(type='RandomResizedCrop', scale=64, crop_ratio_range=(0.1, 1.0)), dict(type='RandomFlip', prob=0.5)]
pipeline = [dict(type='LoadImageFromFile'), *views, dict(type='PackInputs')]
images = dict(data_root='data/ade/ADEChallengeData2016', data_prefix='images/training', with_label=False)
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
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
