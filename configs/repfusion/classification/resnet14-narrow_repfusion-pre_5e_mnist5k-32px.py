_base_ = '../../baselines/classification/resnet14-narrow_5e_mnist5k-32px.py'

# Or --cfg-options model.backbone.init_cfg.checkpoint=FILE
checkpoint = 'work_dirs/repfusion/distill/resnet14-narrow_repfusion-rl-hint_30e_mnist5k-32px/epoch_30.pth'
model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=checkpoint, prefix='student.backbone.')))
min_load_ratio = 1.0
