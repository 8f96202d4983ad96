# MNIST-5k scaled to 32x32 pixels, shifted by up to 2 pixels in training.
data_preprocessor = dict(num_classes=10, mean=[33.4] * 3, std=[78.6] * 3, to_rgb=False)

resize = dict(type='Resize', scale=32)
train_pipeline = [resize, dict(type='RandomCrop', crop_size=32, padding=2), dict(type='PackInputs')]
test_pipeline = [resize, dict(type='PackInputs')]
# --tta averages over the image and its shifts by 2 of its 28 pixels along each axis.
tta_model = dict(type='AverageClsScoreTTA')
shift = dict(type='Translate', prob=1.0, random_negative_prob=0.0, pad_val=0)
shifts = [
    dict(shift, direction=direction, magnitude=2 / 28 * sign)
    for direction, sign in (('horizontal', 0), ('horizontal', 1), ('horizontal', -1), ('vertical', 1), ('vertical', -1))
]
tta_pipeline = [dict(type='TestTimeAug', transforms=[[resize], shifts, [dict(type='PackInputs')]])]

# The images are in memory: a worker process would cost more than it gives.
in_memory = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(
    batch_size=64,
    dataset=dict(type='reprefine.SmallDigits', source='mnist5k', split='train', pipeline=train_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True),
    **in_memory,
)
val_dataloader = dict(
    batch_size=256,
    dataset=dict(type='reprefine.SmallDigits', source='mnist5k', split='val', pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
    **in_memory,
)
test_dataloader = dict(
    batch_size=256,
    dataset=dict(type='reprefine.SmallDigits', source='mnist5k', split='test', pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
    **in_memory,
)
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator
