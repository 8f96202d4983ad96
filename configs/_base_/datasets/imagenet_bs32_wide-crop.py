# Crops of 10 to 100 % of the area at aspect ratios of 0.8 to 1.25, resized with an antialiased filter.
_base_ = 'mmpretrain::_base_/datasets/imagenet_bs32_pil_resize.py'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='RandomResizedCrop',
        scale=224,
        crop_ratio_range=(0.1, 1.0),
        aspect_ratio_range=(0.8, 1.25),
        max_attempts=100,
        backend='pillow',
    ),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
