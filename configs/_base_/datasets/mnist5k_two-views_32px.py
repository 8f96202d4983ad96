# Two views of each of the 3,000 training images of MNIST-5k, scaled to 32x32 pixels, for contrastive learning.
# A mirrored digit is another one, or none: no flips. Grey images: no change of colour.
data_preprocessor = dict(type='SelfSupDataPreprocessor', mean=[33.4] * 3, std=[78.6] * 3)
view_pipeline = [
    dict(
        type='Rotate',
        magnitude_range=(0, 15),
        magnitude_std='inf',
        prob=1.0,
        pad_val=0,
        interpolation='bilinear',
    ),
    dict(type='RandomResizedCrop', scale=32, crop_ratio_range=(0.4, 1.0), interpolation='bilinear'),
    dict(type='ColorJitter', brightness=0.4),
]
train_pipeline = [
    dict(type='MultiView', num_views=2, transforms=[view_pipeline]),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=64,
    # The images are in memory: a worker process would cost more than it gives.
    num_workers=0,
    persistent_workers=False,
    drop_last=True,
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='reprefine.SmallDigits', source='mnist5k', split='train', pipeline=train_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True),
)

# One view without augmentation and its label, for nearest neighbours: those of the validation images among the training images.
plain_pipeline = [dict(type='Resize', scale=32), dict(type='PackInputs')]
plain = dict(
    batch_size=250,
    num_workers=0,
    persistent_workers=False,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
digits = dict(type='reprefine.SmallDigits', source='mnist5k', pipeline=plain_pipeline)
neighbours = dict(
    bank=dict(dataset=dict(split='train', **digits), **plain),
    query=dict(dataset=dict(split='val', **digits), **plain),
    k=20,
)
