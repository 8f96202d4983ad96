_base_ = ['../../baselines/segmentation/vit-p4_linear_120_ade20k-64px.py', '../_base_/vit-p4.py']

model = dict(neck=_base_.denoiser)
