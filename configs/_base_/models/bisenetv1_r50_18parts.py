# BiSeNetV1 on ResNet-50 for the 18 parts of CelebAMask-HQ; the widths are those of mmseg's bisenetv1_r50-d32 configs.
_base_ = 'mmseg::_base_/models/bisenetv1_r18-d32.py'

data_preprocessor = dict(size=(448, 448))
model = dict(
    data_preprocessor=data_preprocessor,
    backbone=dict(
        context_channels=(512, 1024, 2048),
        spatial_channels=(256, 256, 256, 512),
        out_channels=1024,
        backbone_cfg=dict(depth=50),
    ),
    decode_head=dict(num_classes=18, in_channels=1024, channels=1024),
    auxiliary_head=[dict(head, num_classes=18, in_channels=512, channels=256) for head in _base_.model.auxiliary_head],
)
