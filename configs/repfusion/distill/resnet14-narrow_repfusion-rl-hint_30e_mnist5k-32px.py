_base_ = './resnet14-narrow_repfusion-uniform-hint_30e_mnist5k-32px.py'

model = dict(timestep_source=None)
custom_hooks = [*_base_.custom_hooks, _base_.selector]
