_base_ = ['../../_base_/models/vit-b-dinov2.py', '../../_base_/recipes/lost_coco20k.py']

model = dict(backbone=_base_.backbone)
