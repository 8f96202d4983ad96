_base_ = '../mlp-pda_5e_mnist5k.py'

model = dict(backbone=dict(layer_cfg=dict(deploy=True)))
