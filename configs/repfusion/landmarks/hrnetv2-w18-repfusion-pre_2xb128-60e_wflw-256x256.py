_base_ = '../../baselines/landmarks/hrnetv2-w18_2xb128-60e_wflw-256x256.py'

# Or --cfg-options model.backbone.init_cfg.checkpoint=FILE
checkpoint = 'work_dirs/repfusion/distill/hrnetv2-w18_repfusion-t0-dense_2xb32-200e_celeba-hq-256x256/epoch_200.pth'
model = dict(
    backbone=dict(init_cfg=dict(_delete_=True, type='Pretrained', checkpoint=checkpoint, prefix='student.backbone.'))
)
min_load_ratio = 1.0
