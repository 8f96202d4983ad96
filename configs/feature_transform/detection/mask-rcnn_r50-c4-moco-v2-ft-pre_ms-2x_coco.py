_base_ = '../../baselines/detection/mask-rcnn_r50-c4_ms-2x_coco.py'

# Or --cfg-options model.backbone.init_cfg.checkpoint=FILE model.roi_head.shared_head.init_cfg.checkpoint=FILE
pretrained = dict(
    _delete_=True,
    type='Pretrained',
    prefix='backbone.',
    checkpoint='work_dirs/feature_transform/selfsup/moco-v2-ft_resnet50_8xb32-coslr-200e_in1k/epoch_200.pth',
)
model = dict(backbone=dict(init_cfg=pretrained), roi_head=dict(shared_head=dict(init_cfg=pretrained)))
