_base_ = [
    '../../_base_/models/vit-b-clip.py',
    '../../_base_/datasets/voc12_512x512.py',
    '../../_base_/recipes/linear_8xb2-40k.py',
]

model = dict(backbone=_base_.backbone, decode_head=dict(num_classes=_base_.num_classes))
