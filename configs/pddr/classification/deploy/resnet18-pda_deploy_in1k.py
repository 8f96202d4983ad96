_base_ = '../../../baselines/classification/resnet18_8xb32-wide-crop_in1k.py'

model = dict(backbone=dict(type='reprefine.PDResNet', pd_cfg=dict(mode='A'), deploy=True))
