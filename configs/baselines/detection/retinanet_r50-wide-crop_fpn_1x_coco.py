# From a ResNet-50 of PDDR's recipe instead of torchvision's: the control of the detectors with a PD backbone.
_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'

custom_imports = dict(imports=['reprefine'], allow_failed_imports=False)
checkpoint = 'work_dirs/baselines/classification/resnet50_8xb32-wide-crop_in1k/epoch_100.pth'
model = dict(backbone=dict(init_cfg=dict(checkpoint=checkpoint, prefix='backbone')))
