# The 20 nearest labelled features of the training images vote. Whoever inherits sets backbone, classes and size.
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size_divisor=1,
    ),
    decode_head=dict(type='reprefine.KNNHead', in_channels=768, num_neighbors=20),
    test_cfg=dict(mode='whole'),
)
