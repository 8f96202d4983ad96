_base_ = '../../../baselines/classification/resnet18-w32_10e_mnist5k.py'

model = dict(backbone=dict(type='reprefine.PDResNet', pd_cfg=dict(mode='A', group_num='auto'), deploy=True))
