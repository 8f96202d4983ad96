_base_ = ['../../../baselines/depth/vit-b-mae_linear_8xb2-38k_nyu-416x544.py', '../../_base_/vit-b-mae.py']

model = dict(backbone=_base_.distilled)
