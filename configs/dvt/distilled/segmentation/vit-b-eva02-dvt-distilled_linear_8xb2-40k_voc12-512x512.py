_base_ = ['../../../baselines/segmentation/vit-b-eva02_linear_8xb2-40k_voc12-512x512.py', '../../_base_/vit-b-eva02.py']

model = dict(backbone=_base_.distilled)
