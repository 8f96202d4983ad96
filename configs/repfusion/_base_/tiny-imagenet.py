# A student learns from the class-conditional ADM of 64x64 pixels; nothing is evaluated.
_base_ = [
    'mmpretrain::_base_/schedules/cifar10_bs128.py',
    'mmpretrain::_base_/default_runtime.py',
]

custom_imports = dict(imports=['reprefine'], allow_failed_imports=False)
teacher = dict(
    type='reprefine.DiffusionTeacher',
    source=dict(kind='ADM', checkpoint='data/teachers/64x64_diffusion.pt', recipe='imagenet64'),
    layers=[['mid_block.resnets.1.conv2', 768]],
    label_map='data/tiny-imagenet-200/wnids.txt',
)
# The teacher is class-conditional, so the reward must not be the prediction of the class.
selector = dict(
    type='reprefine.RLTimestepSelectorHook', reward='neg_info_nce', baseline='ema', warmup_epochs=1, entropy_weight=0.0
)
optim_wrapper = dict(type='AmpOptimWrapper', loss_scale=512.0, optimizer=dict(nesterov=True))
auto_scale_lr = dict(base_batch_size=64)
data_preprocessor = dict(num_classes=200, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=64),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    dataset=dict(
        type='reprefine.TinyImageNet', data_root='data/tiny-imagenet-200', split='train', pipeline=train_pipeline
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
train_cfg = dict(val_interval=5)
# A leaf with a policy adds it to the hooks; one without averaged weights takes the first list.
unaveraged_hooks = [dict(type='reprefine.DrawCountHook')]
fixed_hooks = [*unaveraged_hooks, dict(type='EMAHook', momentum=0.001, priority='ABOVE_NORMAL')]
custom_hooks = fixed_hooks
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=50, max_keep_ckpts=2))
randomness = dict(seed=0, diff_rank_seed=True)
val_cfg = None
val_dataloader = None
val_evaluator = None
test_cfg = None
test_dataloader = None
test_evaluator = None
