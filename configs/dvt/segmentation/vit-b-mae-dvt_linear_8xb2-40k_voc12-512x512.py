_base_ = ['../../baselines/segmentation/vit-b-mae_linear_8xb2-40k_voc12-512x512.py', '../_base_/vit-b-mae.py']

model = dict(neck=_base_.denoiser)
