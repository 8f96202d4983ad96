# Linear depth on patch features and class token of a frozen ViT. Whoever inherits sets the backbone.
model = dict(
    type='DepthEstimator',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        # Those of ImageNet for every backbone, as published; the backbone's own are its `native`.
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=0,  # no depth
        size=(416, 544),
    ),
    backbone=dict(with_cls_token=True),
    decode_head=dict(
        type='reprefine.LinearDepthHead',
        in_channels=768,
        # The published numbers were reached without the gradient loss; its usual weight is 0.5.
        loss_decode=[dict(type='reprefine.SigLoss'), dict(type='reprefine.GradientLoss', loss_weight=0.0)],
    ),
    # One window holds the whole image: the mean over the image and its mirror image.
    test_cfg=dict(mode='slide_flip', crop_size=(480, 640), stride=(480, 640)),
)
