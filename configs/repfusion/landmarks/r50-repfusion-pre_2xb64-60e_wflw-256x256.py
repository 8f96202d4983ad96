_base_ = '../../baselines/landmarks/r50_2xb64-60e_wflw-256x256.py'

# Or --cfg-options model.backbone.init_cfg.checkpoint=FILE
checkpoint = 'work_dirs/repfusion/distill/resnet50_repfusion-t0-dense_8xb8-200e_celeba-hq-256x256/epoch_200.pth'
model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=checkpoint, prefix='student.backbone.')))
min_load_ratio = 1.0
