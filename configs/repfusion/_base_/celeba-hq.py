# A student learns from the unconditional DDPM of CelebA-HQ, from the training images only; nothing is evaluated.
_base_ = [
    'mmpretrain::_base_/schedules/cifar10_bs128.py',
    'mmpretrain::_base_/default_runtime.py',
]

custom_imports = dict(imports=['reprefine'], allow_failed_imports=False)
# Fetch it where there is a network, hf download google/ddpm-ema-celebahq-256, and put it into data/teachers.
teacher = dict(
    type='reprefine.DiffusionTeacher',
    source='google/ddpm-ema-celebahq-256',
    layers=[['mid_block.resnets.1.conv2', 512]],
)

# Faces without labels, in crops of 256x256 pixels. First run
#   python tools/dataset_tools/prepare_celebamask_hq.py data/celebamask-hq
data_preprocessor = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=256),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    dataset=dict(
        type='reprefine.CelebAHQImages', data_root='data/celebamask-hq', split='train', pipeline=train_pipeline
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
custom_hooks = [dict(type='reprefine.DrawCountHook')]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=50, max_keep_ckpts=2))
randomness = dict(seed=0, diff_rank_seed=True)
val_cfg = None
test_cfg = None
