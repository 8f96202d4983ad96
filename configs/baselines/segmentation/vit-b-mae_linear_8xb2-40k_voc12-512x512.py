_base_ = ['../../_base_/models/vit-b-mae.py', '../../_base_/recipes/linear_8xb2-40k_voc12-512x512.py']

model = dict(backbone=_base_.backbone)
