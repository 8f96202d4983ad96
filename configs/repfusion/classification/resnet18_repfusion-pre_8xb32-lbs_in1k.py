_base_ = '../../baselines/classification/resnet18_8xb32-lbs_in1k.py'

# Or --cfg-options model.backbone.init_cfg.checkpoint=FILE
checkpoint = 'work_dirs/repfusion/distill/resnet18_repfusion-uniform50-hint_200e_in1k/epoch_200.pth'
model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=checkpoint, prefix='student.backbone.')))
min_load_ratio = 1.0
