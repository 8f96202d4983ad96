_base_ = [
    'mmpretrain::_base_/models/resnet50.py',
    '../../_base_/datasets/imagenet100-lt.py',
    '../../_base_/schedules/sgd_finetune_100e.py',
    'mmpretrain::_base_/default_runtime.py',
    '../../_base_/reprefine.py',
]

# Or --cfg-options model.backbone.init_cfg.checkpoint=FILE
checkpoint = 'work_dirs/baselines/selfsup/moco-v2_resnet50_8xb32-coslr-200e_in1k/epoch_200.pth'
model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.')),
    head=dict(num_classes=100),
)
