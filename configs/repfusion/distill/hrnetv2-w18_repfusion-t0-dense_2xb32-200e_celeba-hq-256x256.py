# The fused scales learn, which the landmark model leaves behind.
_base_ = ['mmpretrain::_base_/models/hrnet/hrnet-w18.py', '../_base_/celeba-hq.py']

model = dict(
    _delete_=True,
    type='reprefine.RepFusionDistiller',
    student=dict(backbone=_base_.model.backbone, neck=dict(type='HRFuseScales', in_channels=(18, 36, 72, 144))),
    student_layers=['neck'],
    teacher=_base_.teacher,
    loss=dict(type='reprefine.DenseLoss', terms=[['l1', 10.0]]),
    timestep_source=dict(type='reprefine.ZeroTimesteps'),
)
train_dataloader = dict(batch_size=32)
optim_wrapper = dict(type='AmpOptimWrapper', loss_scale=512.0)
auto_scale_lr = dict(base_batch_size=64)
