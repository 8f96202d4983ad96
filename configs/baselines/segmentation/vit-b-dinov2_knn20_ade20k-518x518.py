_base_ = ['../../_base_/models/vit-b-dinov2.py', '../../_base_/recipes/knn20_ade20k-518x518.py']

model = dict(backbone=_base_.backbone)
