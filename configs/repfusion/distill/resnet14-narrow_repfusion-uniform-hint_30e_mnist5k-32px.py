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
    eval_timesteps=(0, 250, 500, 750),
)
custom_hooks = [dict(type='reprefine.DrawCountHook')]
val_evaluator = dict(_delete_=True, type='reprefine.StudentR2')
test_evaluator = dict(_delete_=True, type='reprefine.StudentR2')
