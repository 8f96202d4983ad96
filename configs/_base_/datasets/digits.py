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
tta_pipeline = [
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(
                    type='Translate',
                    magnitude=1 / 8 * sign,
                    direction=direction,
                    prob=1.0,
                    random_negative_prob=0.0,
                    pad_val=0,
                )
                for direction, sign in (
                    ('horizontal', 0),
                    ('horizontal', 1),
                    ('horizontal', -1),
                    ('vertical', 1),
                    ('vertical', -1),
                )
            ],
            [dict(type='PackInputs')],
        ],
    )
]

train_dataloader = dict(
    batch_size=32,
    # The images are in memory: a worker process would cost more than it gives.
    num_workers=0,
    persistent_workers=False,
    dataset=dict(type='reprefine.SmallDigits', source='digits', split='train', pipeline=train_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(type='reprefine.SmallDigits', source='digits', split='val', pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_dataloader = dict(
    batch_size=256,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(type='reprefine.SmallDigits', source='digits', split='test', pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator
