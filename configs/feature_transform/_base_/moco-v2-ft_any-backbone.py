# Variables for configs that pre-train the backbone of another config by MoCo v2 with feature transformation, on its images
# and by its schedule.
contrast = dict(
    type='reprefine.MoCoFT',
    queue_len=65536,
    feat_dim=128,
    momentum=0.001,
    feature_transform=dict(pos=dict(alpha=2.0), neg=dict(alpha=1.6)),
    data_preprocessor=dict(
        type='mmpretrain.SelfSupDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
    neck=dict(type='mmpretrain.MoCoV2Neck', hid_channels=2048, out_channels=128, with_avg_pool=True),
    head=dict(type='mmpretrain.ContrastiveHead', loss=dict(type='mmpretrain.CrossEntropyLoss'), temperature=0.2),
)
view = [
    dict(type='mmpretrain.RandomResizedCrop', scale=224, crop_ratio_range=(0.2, 1.0), backend='pillow'),
    dict(
        type='mmengine.RandomApply',
        prob=0.8,
        transforms=[dict(type='mmpretrain.ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)],
    ),
    dict(type='mmengine.RandomGrayscale', prob=0.2, keep_channels=True, channel_weights=(0.114, 0.587, 0.2989)),
    dict(type='mmpretrain.GaussianBlur', magnitude_range=(0.1, 2.0), magnitude_std='inf', prob=0.5),
    dict(type='mmengine.RandomFlip', prob=0.5),
]
two_views = [
    dict(type='mmengine.LoadImageFromFile'),
    dict(type='mmpretrain.MultiView', num_views=2, transforms=[view]),
    dict(type='mmpretrain.PackInputs'),
]
