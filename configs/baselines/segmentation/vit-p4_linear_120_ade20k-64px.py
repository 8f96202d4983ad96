_base_ = ['../../_base_/models/vit-p4_64px.py', '../../_base_/recipes/linear_120_ade20k-64px.py']

model = dict(backbone=_base_.backbone)
