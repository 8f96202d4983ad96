_base_ = ['../../baselines/segmentation/vit-b-dinov2_linear_8xb2-40k_voc12-512x512.py', '../_base_/vit-b-dinov2.py']

model = dict(backbone=dict(crop_padding=True), neck=_base_.denoiser)
