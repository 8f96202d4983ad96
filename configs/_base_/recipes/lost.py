# Object discovery by LOST on the last feature map of a frozen ViT: images in their own size, nothing is trained, all
# objects count, also difficult ones. Whoever inherits sets backbone and images.
_base_ = 'mmdet::_base_/default_runtime.py'

custom_imports = dict(imports=['reprefine'], allow_failed_imports=False)
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
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        test_mode=True,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape')),
        ],
    ),
)
test_cfg = dict(type='TestLoop')
test_evaluator = dict(type='reprefine.CorLoc')
