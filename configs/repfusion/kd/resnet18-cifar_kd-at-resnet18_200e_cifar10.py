_base_ = ['../../baselines/classification/resnet18-cifar_200e_cifar10.py', '../_base_/kd_cifar10.py']

model = dict(
    type='reprefine.KDClassifier', teacher=_base_.resnet18, kd=dict(type='reprefine.AttentionKD', loss_weight=1.0)
)
