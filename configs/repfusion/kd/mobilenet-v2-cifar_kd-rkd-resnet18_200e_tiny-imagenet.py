_base_ = [
    '../../baselines/classification/mobilenet-v2-cifar_200e_tiny-imagenet.py',
    '../_base_/kd_tiny-imagenet.py',
]

model = dict(
    type='reprefine.KDClassifier', teacher=_base_.resnet18, kd=dict(type='reprefine.RelationalKD', loss_weight=1.0)
)
