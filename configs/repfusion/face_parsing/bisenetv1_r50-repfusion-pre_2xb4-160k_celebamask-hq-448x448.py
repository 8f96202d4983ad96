_base_ = '../../baselines/face_parsing/bisenetv1_r50_2xb4-160k_celebamask-hq-448x448.py'

# Or --cfg-options model.backbone.backbone_cfg.init_cfg.checkpoint=FILE
checkpoint = 'work_dirs/repfusion/distill/resnet50_repfusion-t0-dense_8xb8-200e_celeba-hq-256x256/epoch_200.pth'
init_cfg = dict(type='Pretrained', checkpoint=checkpoint, prefix='student.backbone.')
model = dict(backbone=dict(backbone_cfg=dict(init_cfg=init_cfg)))
min_load_ratio = 1.0
