# Pipelines of person re-identification at 384x128 (height x width).
resize = dict(type='Resize', scale=(128, 384), interpolation='bicubic', backend='pillow')
pack = dict(
    type='PackInputs', meta_keys=('sample_idx', 'img_path', 'ori_shape', 'img_shape', 'flip', 'pid', 'camera', 'role')
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    resize,
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='RandomCrop', crop_size=(384, 128), padding=10),
    # One box of noise, with the mean and the deviation of the normalisation.
    dict(type='RandomErasing', erase_prob=0.5, max_area_ratio=1 / 3, mode='rand', fill_color=127.5, fill_std=127.5),
    pack,
]
test_pipeline = [dict(type='LoadImageFromFile'), resize, pack]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    resize,
    dict(type='TestTimeAug', transforms=[[dict(type='RandomFlip', prob=flip) for flip in (0.0, 1.0)], [pack]]),
]
