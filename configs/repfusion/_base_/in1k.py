# A student learns from the unconditional ADM of 256x256 pixels; nothing is evaluated.
_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs32.py',
    'mmpretrain::_base_/schedules/cifar10_bs128.py',
    'mmpretrain::_base_/default_runtime.py',
]

custom_imports = dict(imports=['reprefine'], allow_failed_imports=False)
teacher = dict(
    type='reprefine.DiffusionTeacher',
    source=dict(kind='ADM', checkpoint='data/teachers/256x256_diffusion_uncond.pt', recipe='imagenet256_uncond'),
    layers=[['mid_block.resnets.1.conv2', 1024]],
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=256),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(type='AmpOptimWrapper', loss_scale=512.0)
train_cfg = dict(val_interval=5)
custom_hooks = [
    dict(type='reprefine.DrawCountHook'),
    dict(type='EMAHook', momentum=0.001, priority='ABOVE_NORMAL'),
]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=50, max_keep_ckpts=2))
randomness = dict(seed=0, diff_rank_seed=True)
auto_scale_lr = dict(base_batch_size=32)
val_cfg = None
val_dataloader = None
val_evaluator = None
test_cfg = None
test_dataloader = None
test_evaluator = None
