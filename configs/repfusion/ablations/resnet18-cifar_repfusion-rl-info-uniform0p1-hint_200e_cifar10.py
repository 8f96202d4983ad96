# The policy is rewarded by how well the features separate the batch, less the batch's mean; one batch in ten is uniform.
_base_ = '../distill/resnet18-cifar_repfusion-rl-hint_200e_cifar10.py'

selector = dict(_base_.selector, reward='neg_info_nce', head=None, baseline='batch_mean', uniform_prob=0.1)
custom_hooks = [*_base_.fixed_hooks, selector]
