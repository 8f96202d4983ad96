_base_ = ['../../_base_/models/vit-b-dino.py', '../../_base_/recipes/linear_8xb2-38k_nyu-416x544.py']

model = dict(backbone=_base_.backbone)
