_base_ = [
    '../../../_base_/models/vit-b-clip.py',
    '../../../_base_/recipes/simple-fpn_24k_voc0712.py',
]

# The denoised features get this table of positions; here the ViT's own do.
model = dict(backbone=_base_.backbone, neck=dict(position_grid=37))
