_base_ = ['../../../baselines/segmentation/vit-b-clip_linear_8xb2-40k_ade20k-512x512.py', '../../_base_/vit-b-clip.py']

model = dict(backbone=_base_.distilled)
