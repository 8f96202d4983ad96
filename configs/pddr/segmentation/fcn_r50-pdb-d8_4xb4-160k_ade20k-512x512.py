_base_ = '../../baselines/segmentation/fcn_r50-wide-crop-d8_4xb4-160k_ade20k-512x512.py'

checkpoint = 'work_dirs/pddr/classification/resnet50-pdb_8xb32-wide-crop_in1k/epoch_100.pth'
model = dict(backbone=dict(type='reprefine.PDResNet', pd_cfg=dict(mode='B'), init_cfg=dict(checkpoint=checkpoint)))
