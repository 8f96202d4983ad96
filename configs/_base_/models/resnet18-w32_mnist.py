# ResNet-18 of half the width without its last stage, for images of 28x28 pixels: maps of 7, 7 and 4 positions a side.
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='ResNet',
        depth=18,
        num_stages=3,
        strides=(1, 1, 2),
        dilations=(1, 1, 1),
        out_indices=(2,),
        stem_channels=32,
        base_channels=32,
        zero_init_residual=False,
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=128, loss=dict(type='CrossEntropyLoss')),
)
