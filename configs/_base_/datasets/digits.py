# UCI handwritten digits of scikit-learn: 8x8 pixels, 1,085 / 357 / 355 images.
data_preprocessor = dict(num_classes=10, mean=[77.7] * 3, std=[95.8] * 3, to_rgb=False)

train_pipeline = [
    # A quarter of the images is shifted by up to 1 pixel. No flips: a mirrored digit is another one, or none.
    dict(type='RandomApply', prob=0.25, transforms=[dict(type='RandomCrop', crop_size=8, padding=1)]),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='PackInputs')]
# --tta averages over the image and its shifts by 1 pixel along each axis.
tta_model = dict(type='AverageClsScoreTTA')
shift = dict(type='Translate', prob=1.0, random_negative_prob=0.0, pad_val=0)
shifts = [
    dict(shift, direction=direction, magnitude=1 / 8 * sign)
    for direction, sign in (('horizontal', 0), ('horizontal', 1), ('horizontal', -1), ('vertical', 1), ('vertical', -1))
]
tta_pipeline = [dict(type='TestTimeAug', transforms=[shifts, [dict(type='PackInputs')]])]

# The images are in memory: a worker process would cost more than it gives.
in_memory = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(
    batch_size=32,
    dataset=dict(type='reprefine.SmallDigits', source='digits', split='train', pipeline=train_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True),
    **in_memory,
)
val_dataloader = dict(
    batch_size=256,
    dataset=dict(type='reprefine.SmallDigits', source='digits', split='val', pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
    **in_memory,
)
test_dataloader = dict(
    batch_size=256,
    dataset=dict(type='reprefine.SmallDigits', source='digits', split='test', pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
    **in_memory,
)
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator
