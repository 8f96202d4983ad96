_base_ = ['mmpretrain::_base_/models/resnet50.py', '../_base_/celeba-hq.py']

model = dict(
    _delete_=True,
    type='reprefine.RepFusionDistiller',
    student=dict(backbone=_base_.model.backbone, neck=_base_.model.neck),
    student_layers=['backbone.layer4.2.relu'],
    teacher=_base_.teacher,
    loss=dict(type='reprefine.DenseLoss', terms=[['l1', 10.0]]),
    timestep_source=dict(type='reprefine.ZeroTimesteps'),
)
train_dataloader = dict(batch_size=8)
auto_scale_lr = dict(base_batch_size=64)
