_base_ = '../resnet18-w32-pda_10e_mnist5k.py'

model = dict(backbone=dict(deploy=True))
