# Six pre-norm blocks of width 512 on patches of 4x4 pixels; no bias in the query, key and value projections.
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='VisionTransformer',
        arch=dict(embed_dims=512, num_layers=6, num_heads=8, feedforward_channels=512),
        img_size=32,
        patch_size=4,
        drop_rate=0.1,
        qkv_bias=False,
    ),
    neck=None,
    head=dict(type='VisionTransformerClsHead', num_classes=10, in_channels=512, loss=dict(type='CrossEntropyLoss')),
)
