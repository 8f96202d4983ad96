_base_ = [
    '../../../baselines/segmentation/vit-b-deit3_linear_8xb2-40k_ade20k-512x512.py',
    '../../_base_/vit-b-deit3.py',
]

model = dict(backbone=_base_.distilled)
