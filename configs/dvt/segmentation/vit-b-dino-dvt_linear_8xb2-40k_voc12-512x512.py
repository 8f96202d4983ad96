_base_ = ['../../baselines/segmentation/vit-b-dino_linear_8xb2-40k_voc12-512x512.py', '../_base_/vit-b-dino.py']

model = dict(neck=_base_.denoiser)
