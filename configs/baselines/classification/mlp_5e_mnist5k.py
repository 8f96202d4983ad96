# The authors' fully connected demonstration, on MNIST-5k: grey values from 0 to 1, no augmentation.
_base_ = [
    '../../_base_/models/mlp_mnist.py',
    '../../_base_/datasets/mnist5k.py',
    '../../_base_/runtime.py',
]

data_preprocessor = dict(mean=[0.0], std=[255.0], to_rgb=False)
train_pipeline = [dict(type='RandomGrayscale', prob=1.0), dict(type='PackInputs')]
train_dataloader = dict(batch_size=64, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=1000, dataset=dict(pipeline=train_pipeline))
test_dataloader = dict(batch_size=1000, dataset=dict(pipeline=train_pipeline))

optim_wrapper = dict(optimizer=dict(type='Adadelta', lr=1.0))
param_scheduler = dict(type='StepLR', by_epoch=True, step_size=1, gamma=0.7)
train_cfg = dict(by_epoch=True, max_epochs=5, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=64)
randomness = dict(seed=1)
