_base_ = 'mmdet::pascal_voc/faster-rcnn_r50-caffe-c4_ms-18k_voc0712.py'

# mmpretrain adds the layer to mmdet. mmdet's model is a Caffe one: BGR, frozen, no such last normalisation.
custom_imports = dict(imports=['reprefine', 'mmpretrain.models'], allow_failed_imports=False)
norm_cfg = dict(type='SyncBN', requires_grad=True)
trained = dict(norm_cfg=norm_cfg, norm_eval=False, style='pytorch', init_cfg=dict(checkpoint='torchvision://resnet50'))
model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
    backbone=dict(frozen_stages=-1, **trained),
    roi_head=dict(shared_head=dict(type='ResLayerExtraNorm', **trained)),
)
train_dataloader = dict(batch_size=2, dataset=dict(ignore_keys=['dataset_type']))
train_cfg = dict(max_iters=24000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=100),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=24000, milestones=[18000, 22000], gamma=0.1),
]
# Average precision at IoU 0.50 to 0.95, as on COCO, each at the 11 recalls of VOC2007.
val_evaluator = dict(
    type='reprefine.VOCAveragePrecision', iou_thrs=[0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
)
test_evaluator = val_evaluator
