_base_ = '../../baselines/classification/resnet50_8xb32-wide-crop_in1k.py'

model = dict(backbone=dict(type='reprefine.PDResNet', attention=dict(type='reprefine.ELABlock')))
