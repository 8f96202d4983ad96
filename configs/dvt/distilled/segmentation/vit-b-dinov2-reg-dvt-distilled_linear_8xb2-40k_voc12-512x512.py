_base_ = [
    '../../../baselines/segmentation/vit-b-dinov2-reg_linear_8xb2-40k_voc12-512x512.py',
    '../../_base_/vit-b-dinov2-reg.py',
]

model = dict(backbone=_base_.distilled)
