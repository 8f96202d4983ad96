_base_ = [
    '../../_base_/models/vit-b-dinov2-reg.py',
    '../../_base_/datasets/coco20k.py',
    '../../_base_/recipes/lost.py',
]

model = dict(backbone=_base_.backbone)
test_dataloader = dict(dataset=_base_.images)
test_evaluator = dict(with_ignored=False)  # crowds do not count
