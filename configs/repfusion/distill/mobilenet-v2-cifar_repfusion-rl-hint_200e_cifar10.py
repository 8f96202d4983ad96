_base_ = ['../../_base_/models/mobilenet-v2-cifar.py', '../_base_/cifar10.py']

model = dict(
    _delete_=True,
    type='reprefine.RepFusionDistiller',
    student=dict(backbone=_base_.model.backbone, neck=_base_.model.neck),
    student_layers=['backbone.conv2.activate'],
    teacher=_base_.teacher,
    loss=dict(type='reprefine.HintLoss'),
)
custom_hooks = [*_base_.fixed_hooks, _base_.selector]
