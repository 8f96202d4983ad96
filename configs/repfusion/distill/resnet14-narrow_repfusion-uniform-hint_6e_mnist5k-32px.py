_base_ = ['../../_base_/models/resnet14-narrow.py', '../../_base_/recipes/repfusion_mnist5k-32px.py']

model = dict(
    type='reprefine.RepFusionDistiller',
    student=dict(backbone=dict(_base_.backbone, norm_cfg=dict(type='BN')), neck=dict(type='GlobalAveragePooling')),
    student_layers=['backbone.layer3.1.relu'],
    teacher=_base_.teacher,
    loss=dict(type='reprefine.HintLoss'),
    timestep_source=dict(type='reprefine.UniformTimesteps'),
)
