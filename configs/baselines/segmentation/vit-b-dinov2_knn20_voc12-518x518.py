_base_ = [
    '../../_base_/models/vit-b-dinov2.py',
    '../../_base_/datasets/voc12_518x518.py',
    '../../_base_/recipes/knn20_518x518.py',
]

model = dict(backbone=_base_.backbone, decode_head=dict(num_classes=_base_.num_classes))
