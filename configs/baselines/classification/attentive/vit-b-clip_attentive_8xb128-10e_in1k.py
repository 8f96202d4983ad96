_base_ = [
    '../../../_base_/models/vit-b-clip.py',
    '../../../_base_/recipes/attentive_8xb128-10e_in1k.py',
]

model = dict(backbone=_base_.backbone)
