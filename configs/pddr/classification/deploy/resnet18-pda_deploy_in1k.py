_base_ = '../resnet18-pda_8xb32-wide-crop_in1k.py'

model = dict(backbone=dict(deploy=True))
