# MNIST-5k scaled to 32x32 pixels, shifted by up to 2 pixels in training.
_base_ = './mnist5k.py'

train_pipeline = [
    dict(type='Resize', scale=32),
    dict(type='RandomCrop', crop_size=32, padding=2),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='Resize', scale=32), dict(type='PackInputs')]
_shifts, _pack = _base_.tta_pipeline[0].transforms
tta_pipeline = [dict(type='TestTimeAug', transforms=[[dict(type='Resize', scale=32)], _shifts, _pack])]
train_dataloader = dict(batch_size=64, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
