_base_ = './resnet50-moco-v2-pre_8xb32-linear-100e_in100.py'

# Or --cfg-options model.backbone.init_cfg.checkpoint=FILE
checkpoint = 'work_dirs/baselines/selfsup/moco-v1_resnet50_8xb32-coslr-200e_in100/epoch_200.pth'
model = dict(backbone=dict(init_cfg=dict(checkpoint=checkpoint)))
