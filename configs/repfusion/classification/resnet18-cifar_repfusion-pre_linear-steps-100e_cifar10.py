# The schedule in steps, at a lower rate.
_base_ = '../../baselines/classification/resnet18-cifar_linear-100e_cifar10.py'

# Or --cfg-options model.backbone.init_cfg.checkpoint=FILE
checkpoint = 'work_dirs/repfusion/distill/resnet18-cifar_repfusion-rl-hint_200e_cifar10/epoch_200.pth'
model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=checkpoint, prefix='student.backbone.')))
min_load_ratio = 1.0
optim_wrapper = dict(optimizer=dict(lr=0.05))
param_scheduler = dict(_delete_=True, type='MultiStepLR', milestones=[50, 75], gamma=0.1, by_epoch=True)
