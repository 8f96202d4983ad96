# Training of the denoiser as the paper's tables had it: 6.4 million samples; batch size for 8 GPUs, on one take 64.
_base_ = 'mmpretrain::_base_/default_runtime.py'

custom_imports = dict(imports=['reprefine'], allow_failed_imports=False)
model = dict(type='reprefine.DenoiserTraining', neck=dict(type='reprefine.DVTDenoiser'))
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='InfiniteSampler', shuffle=True),
    # The first 10,000 images of the list, denoised by the configs stage1/*_denoise-field_768views.py.
    dataset=dict(
        type='reprefine.FeaturePairDataset',
        data_root='data/dvt/field',
        indices=10000,
        made_with=dict(solver='field', profile='paper'),
    ),
)
# The peak is 2e-4 * sqrt(batch size / 256).
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=1e-5))
param_scheduler = [dict(type='reprefine.DenoiserLR', total=100000)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=100000)
log_processor = dict(by_epoch=False)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=5000, max_keep_ckpts=2))
custom_hooks = [dict(type='reprefine.DenoiserVisualizationHook', interval=5000)]
randomness = dict(seed=0, diff_rank_seed=True)
