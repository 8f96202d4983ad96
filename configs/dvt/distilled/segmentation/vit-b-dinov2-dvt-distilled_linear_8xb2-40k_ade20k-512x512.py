_base_ = [
    '../../../baselines/segmentation/vit-b-dinov2_linear_8xb2-40k_ade20k-512x512.py',
    '../../_base_/vit-b-dinov2.py',
]

model = dict(backbone=_base_.distilled)
