_base_ = '../fcn_r50-pda-d8_4xb4-160k_ade20k-512x512.py'

model = dict(backbone=dict(deploy=True))
