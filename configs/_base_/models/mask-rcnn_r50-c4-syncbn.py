# mmpretrain adds the layer to mmdet. mmdet's model is a Caffe one: BGR, frozen, no such last normalisation.
_base_ = 'mmdet::_base_/models/mask-rcnn_r50-caffe-c4.py'

custom_imports = dict(imports=['reprefine', 'mmpretrain.models'], allow_failed_imports=False)
norm_cfg = dict(type='SyncBN', requires_grad=True)
trained = dict(
    norm_cfg=norm_cfg,
    norm_eval=False,
    style='pytorch',
    init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
)
model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
    backbone=dict(frozen_stages=-1, **trained),
    roi_head=dict(shared_head=dict(type='ResLayerExtraNorm', **trained)),
)
