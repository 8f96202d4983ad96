_base_ = './moco-v2_resnet50_8xb32-coslr-200e_in1k.py'

model = dict(
    neck=dict(_delete_=True, type='LinearNeck', in_channels=2048, out_channels=128, gap_dim=2, norm_cfg=None),
    head=dict(temperature=0.07),
)
# No blur; the colours always change, and more.
view_pipeline = [
    _base_.view_pipeline[0],
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.4),
    _base_.view_pipeline[2],
    _base_.view_pipeline[4],
]
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='MultiView', num_views=2, transforms=[view_pipeline]),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
