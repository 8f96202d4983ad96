_base_ = ['../../../baselines/segmentation/vit-b-clip_linear_8xb2-40k_voc12-512x512.py', '../../_base_/vit-b-clip.py']

model = dict(backbone=_base_.distilled)
