_base_ = ['mmpretrain::_base_/models/resnet18_cifar.py', '../_base_/cifar10.py']

model = dict(
    _delete_=True,
    type='reprefine.RepFusionDistiller',
    student=dict(backbone=_base_.model.backbone, neck=_base_.model.neck),
    student_layers=['backbone.layer4.1.relu'],
    teacher=_base_.teacher,
    loss=dict(type='reprefine.HintLoss'),
)
custom_hooks = [*_base_.fixed_hooks, _base_.selector]
