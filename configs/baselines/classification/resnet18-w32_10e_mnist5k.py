_base_ = [
    '../../_base_/models/resnet18-w32_mnist.py',
    '../../_base_/datasets/mnist5k.py',
    '../../_base_/schedules/sgd_10e_small-images.py',
    '../../_base_/runtime.py',
]

train_dataloader = dict(batch_size=64)
