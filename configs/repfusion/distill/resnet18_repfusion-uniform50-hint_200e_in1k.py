_base_ = ['mmpretrain::_base_/models/resnet18.py', '../_base_/in1k.py']

model = dict(
    _delete_=True,
    type='reprefine.RepFusionDistiller',
    student=dict(backbone=_base_.model.backbone, neck=_base_.model.neck),
    student_layers=['backbone.layer4.1.relu'],
    teacher=_base_.teacher,
    loss=dict(type='reprefine.HintLoss'),
    timestep_source=dict(type='reprefine.UniformTimesteps', max_timestep=50),
)
