# The policy is rewarded by how close the student comes to the feature; the student also learns from the labels.
_base_ = '../distill/resnet18-cifar_repfusion-rl-hint_200e_cifar10.py'

model = dict(head=dict(type='LinearClsHead', num_classes=10, in_channels=512))
selector = dict(_base_.selector, reward='neg_feature_mse', head=None)
custom_hooks = [*_base_.fixed_hooks, selector]
