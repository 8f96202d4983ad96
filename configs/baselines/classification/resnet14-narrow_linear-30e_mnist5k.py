_base_ = [
    '../../_base_/models/resnet14-narrow.py',
    '../../_base_/models/linear_narrow.py',
    '../../_base_/datasets/mnist5k.py',
    '../../_base_/schedules/sgd_linear_30e.py',
    '../../_base_/runtime.py',
]

# Or --cfg-options model.backbone.init_cfg.checkpoint=FILE
checkpoint = 'work_dirs/baselines/selfsup/moco-v2_resnet14-narrow_12e_mnist5k/epoch_12.pth'
init_cfg = dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.')
model = dict(backbone=dict(init_cfg=init_cfg, **_base_.backbone))
train_dataloader = dict(batch_size=125, dataset=dict(pipeline=_base_.plain))
val_dataloader = dict(dataset=dict(pipeline=_base_.plain))
test_dataloader = dict(dataset=dict(pipeline=_base_.plain))
