_base_ = [
    '../../_base_/models/vit-b-dinov2-reg.py',
    '../../_base_/datasets/voc12_trainval.py',
    '../../_base_/recipes/lost.py',
]

model = dict(backbone=_base_.backbone)
test_dataloader = dict(dataset=_base_.images)
