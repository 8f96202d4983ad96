_base_ = [
    '../../../_base_/models/vit-b-clip.py',
    '../../../_base_/recipes/simple-fpn_24k_voc0712.py',
]

model = dict(backbone=_base_.backbone)
