# ResNet-50 with three deconvolutions in HRNet's recipe.
_base_ = './hrnetv2-w18_2xb128-60e_wflw-256x256.py'

model = dict(
    backbone=dict(_delete_=True, type='ResNet', depth=50),
    neck=None,
    head=dict(
        _delete_=True,
        type='HeatmapHead',
        in_channels=2048,
        out_channels=98,
        loss=dict(type='KeypointMSELoss', use_target_weight=True),
        decoder=_base_.codec,
    ),
)
train_dataloader = dict(batch_size=64)
auto_scale_lr = dict(base_batch_size=128)
