_base_ = '../../baselines/classification/resnet50-moco-v2-pre_8xb32-linear-100e_in1k.py'

# Or --cfg-options model.backbone.init_cfg.checkpoint=FILE
checkpoint = 'work_dirs/feature_transform/selfsup/moco-v1-ft_resnet50_8xb32-coslr-200e_in1k/epoch_200.pth'
model = dict(backbone=dict(init_cfg=dict(checkpoint=checkpoint)))
