_base_ = '../resnet18-pdb_8xb32-wide-crop_in1k.py'

model = dict(backbone=dict(deploy=True))
