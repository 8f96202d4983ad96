_base_ = [
    '../../../_base_/models/vit-b-dinov2-reg.py',
    '../../../_base_/recipes/simple-fpn_24k_voc0712.py',
]

# The denoised features get this table of positions; here the ViT's own do.
model = dict(_base_.patches_of_14, backbone=_base_.backbone, neck=dict(position_grid=37))
