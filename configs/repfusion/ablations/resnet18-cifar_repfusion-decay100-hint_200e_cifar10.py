_base_ = '../distill/resnet18-cifar_repfusion-rl-hint_200e_cifar10.py'

model = dict(timestep_source=dict(type='reprefine.UniformTimesteps'))
custom_hooks = [*_base_.fixed_hooks, dict(type='reprefine.MaxTimestepDecayHook', end=100)]
