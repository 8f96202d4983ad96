_base_ = ['mmpretrain::_base_/models/resnet18.py', '../_base_/celeba-hq.py']

model = dict(
    _delete_=True,
    type='reprefine.RepFusionDistiller',
    student=dict(backbone=_base_.model.backbone, neck=_base_.model.neck),
    student_layers=['backbone.layer4.1.relu'],
    teacher=_base_.teacher,
    loss=dict(type='reprefine.DenseLoss', terms=[['l2', 1.0]]),
    timestep_source=dict(type='reprefine.ZeroTimesteps'),
)
optim_wrapper = dict(type='AmpOptimWrapper', loss_scale=512.0)
auto_scale_lr = dict(base_batch_size=64)
