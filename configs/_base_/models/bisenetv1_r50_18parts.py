# The widths are those of mmseg's bisenetv1_r50-d32 configs.
_base_ = './bisenetv1_r18_18parts.py'

model = dict(
    backbone=dict(
        context_channels=(512, 1024, 2048),
        spatial_channels=(256, 256, 256, 512),
        out_channels=1024,
        backbone_cfg=dict(depth=50),
    ),
    decode_head=dict(in_channels=1024, channels=1024),
    auxiliary_head=[dict(head, in_channels=512, channels=256) for head in _base_.model.auxiliary_head],
)
