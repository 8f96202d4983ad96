_base_ = '../../baselines/classification/resnet14-narrow_linear-30e_mnist5k.py'

# Or --cfg-options model.backbone.init_cfg.checkpoint=FILE
checkpoint = 'work_dirs/feature_transform/selfsup/moco-v2-ft_resnet14-narrow_12e_mnist5k/epoch_12.pth'
model = dict(backbone=dict(init_cfg=dict(checkpoint=checkpoint)))
