_base_ = '../distill/resnet18-cifar_repfusion-rl-hint_200e_cifar10.py'

selector = dict(_base_.selector, entropy_weight=0.1, entropy_epochs=None)
custom_hooks = [*_base_.fixed_hooks, selector]
