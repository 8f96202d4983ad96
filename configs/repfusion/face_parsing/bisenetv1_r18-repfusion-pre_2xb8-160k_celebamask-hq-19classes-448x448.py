# The background as a class of its own; not comparable with 18 classes.
_base_ = '../../baselines/face_parsing/bisenetv1_r18_2xb8-160k_celebamask-hq-19classes-448x448.py'

# Or --cfg-options model.backbone.backbone_cfg.init_cfg.checkpoint=FILE
checkpoint = 'work_dirs/repfusion/distill/resnet18_repfusion-t0-dense_4xb16-200e_celeba-hq-256x256/epoch_200.pth'
init_cfg = dict(type='Pretrained', checkpoint=checkpoint, prefix='student.backbone.')
model = dict(backbone=dict(backbone_cfg=dict(init_cfg=init_cfg)))
min_load_ratio = 1.0
