# A student learns from the unconditional ADM of 256x256 pixels; nothing is evaluated.
_base_ = ['mmpretrain::_base_/datasets/imagenet_bs32.py', '../schedules/sgd_200e_small-images.py', '../runtime.py']

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
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='reprefine.DrawCountHook'),
    dict(type='EMAHook', momentum=0.001, priority='ABOVE_NORMAL'),
]
default_hooks = dict(checkpoint=dict(interval=50))
auto_scale_lr = dict(base_batch_size=32)
val_cfg = None
val_dataloader = None
val_evaluator = None
test_cfg = None
test_dataloader = None
test_evaluator = None
