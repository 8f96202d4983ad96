_base_ = '../../baselines/detection/retinanet_r50-wide-crop_fpn_1x_coco.py'

checkpoint = 'work_dirs/pddr/classification/resnet50-pdb_8xb32-wide-crop_in1k/epoch_100.pth'
model = dict(backbone=dict(type='reprefine.PDResNet', pd_cfg=dict(mode='B'), init_cfg=dict(checkpoint=checkpoint)))
