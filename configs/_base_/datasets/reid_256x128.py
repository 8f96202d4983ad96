# Person re-identification at 256x128 (height x width); a data set's own file names its class and folder.
# Another size in a leaf over a data set's file:
#   train_pipeline, test_pipeline, tta_pipeline = _base_.train_pipeline, _base_.test_pipeline, _base_.tta_pipeline
#   train_pipeline[1].scale = test_pipeline[1].scale = tta_pipeline[1].scale = (128, 384)
#   train_pipeline[3].crop_size = (384, 128)
#   train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
#   val_dataloader = test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
data_preprocessor = dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True)

_resize = dict(type='Resize', scale=(128, 256), interpolation='bicubic', backend='pillow')
_pack = dict(
    type='PackInputs', meta_keys=('sample_idx', 'img_path', 'ori_shape', 'img_shape', 'flip', 'pid', 'camera', 'role')
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    _resize,
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='RandomCrop', crop_size=(256, 128), padding=10),
    # One box of noise, with the mean and the deviation of the normalisation.
    dict(type='RandomErasing', erase_prob=0.5, max_area_ratio=1 / 3, mode='rand', fill_color=127.5, fill_std=127.5),
    _pack,
]
test_pipeline = [dict(type='LoadImageFromFile'), _resize, _pack]
# --tta averages the features of an image and its mirror image.
tta_model = dict(type='reprefine.ReIDTTAModel')
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    _resize,
    dict(type='TestTimeAug', transforms=[[dict(type='RandomFlip', prob=flip) for flip in (0.0, 1.0)], [_pack]]),
]

train_dataloader = dict(
    batch_size=64,  # 16 identities with 4 images each
    num_workers=4,
    persistent_workers=True,
    dataset=dict(split='train', pipeline=train_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='reprefine.PKSampler', num_instances=4),
)
# One data set of queries and gallery: the metric tells them apart.
val_dataloader = dict(
    batch_size=128,
    num_workers=4,
    persistent_workers=True,
    dataset=dict(split='test', pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='reprefine.ReIDMetric')
test_evaluator = val_evaluator
