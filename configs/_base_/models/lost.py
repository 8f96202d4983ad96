# LOST on the last feature map of a frozen ViT; nothing is trained. Whoever inherits sets the backbone.
model = dict(
    type='reprefine.LOST',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=14,  # the patch size
    ),
    # The cue of DVT's paper; `degree` is that of LOST.
    prominence='norm',
    num_patches=100,
)
