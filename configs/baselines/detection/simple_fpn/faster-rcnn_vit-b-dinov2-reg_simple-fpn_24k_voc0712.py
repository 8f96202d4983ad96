_base_ = [
    '../../../_base_/models/vit-b-dinov2-reg.py',
    '../../../_base_/recipes/simple-fpn_24k_voc0712.py',
]

model = dict(_base_.patches_of_14, backbone=_base_.backbone)
