_base_ = '../../baselines/detection/faster-rcnn_r50-c4-moco-v1-pre_ms-24k_voc0712.py'

# Or --cfg-options model.backbone.init_cfg.checkpoint=FILE model.roi_head.shared_head.init_cfg.checkpoint=FILE
pretrained = dict(
    checkpoint='work_dirs/feature_transform/selfsup/moco-v1-ft_resnet50_8xb32-coslr-200e_in1k/epoch_200.pth'
)
model = dict(backbone=dict(init_cfg=pretrained), roi_head=dict(shared_head=dict(init_cfg=pretrained)))
