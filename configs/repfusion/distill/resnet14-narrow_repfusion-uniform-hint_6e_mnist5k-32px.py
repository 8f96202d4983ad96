_base_ = [
    '../../_base_/models/resnet14-narrow.py',
    '../../_base_/datasets/mnist5k_32px.py',
    '../_base_/mnist5k.py',
    '../../_base_/runtime.py',
]

model = dict(
    type='reprefine.RepFusionDistiller',
    student=dict(backbone=dict(_base_.backbone, norm_cfg=dict(type='BN')), neck=dict(type='GlobalAveragePooling')),
    student_layers=['backbone.layer3.1.relu'],
    teacher=_base_.teacher,
    loss=dict(type='reprefine.HintLoss'),
    timestep_source=dict(type='reprefine.UniformTimesteps'),
)
custom_hooks = [dict(type='reprefine.DrawCountHook')]
# Nothing is evaluated.
val_dataloader = None
val_evaluator = None
test_dataloader = None
test_evaluator = None
