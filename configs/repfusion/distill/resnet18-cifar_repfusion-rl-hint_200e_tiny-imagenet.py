_base_ = './resnet18-cifar_repfusion-uniform50-hint_200e_tiny-imagenet.py'

model = dict(timestep_source=None)
custom_hooks = [*_base_.fixed_hooks, _base_.selector]
