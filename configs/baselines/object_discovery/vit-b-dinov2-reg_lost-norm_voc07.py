_base_ = ['../../_base_/models/vit-b-dinov2-reg.py', '../../_base_/recipes/lost_voc07.py']

model = dict(backbone=_base_.backbone)
