_base_ = '../resnet18-w32-pdb_10e_mnist5k.py'

model = dict(backbone=dict(deploy=True))
