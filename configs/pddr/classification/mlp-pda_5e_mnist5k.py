_base_ = '../../baselines/classification/mlp_5e_mnist5k.py'

model = dict(backbone=dict(layer_cfg=dict(type='reprefine.PDLinear', mode='A')))
