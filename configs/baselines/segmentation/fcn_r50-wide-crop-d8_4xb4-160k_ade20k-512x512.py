# From a ResNet-50 of PDDR's recipe, whose stem is a 7x7 convolution: the control of FCN with a PD backbone.
_base_ = 'mmseg::fcn/fcn_r50-d8_4xb4-160k_ade20k-512x512.py'

custom_imports = dict(imports=['reprefine'], allow_failed_imports=False)
checkpoint = 'work_dirs/baselines/classification/resnet50_8xb32-wide-crop_in1k/epoch_100.pth'
init_cfg = dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone')
model = dict(pretrained=None, backbone=dict(type='ResNet', init_cfg=init_cfg))
