_base_ = [
    '../../../_base_/models/vit-b-dinov2.py',
    '../../../_base_/recipes/simple-fpn-p14_24k_voc0712.py',
]

model = dict(backbone=_base_.backbone)
