_base_ = ['../../_base_/models/vit-b-dinov2-reg.py', '../../_base_/recipes/lost_voc12.py']

model = dict(backbone=_base_.backbone)
