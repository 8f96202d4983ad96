_base_ = ['../../baselines/classification/wrn-28-2-cifar_200e_cifar10.py', '../_base_/kd_cifar10.py']

model = dict(
    type='reprefine.KDClassifier', teacher=_base_.wrn_28_2, kd=dict(type='reprefine.AttentionKD', loss_weight=1.0)
)
