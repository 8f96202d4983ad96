_base_ = ['../../baselines/depth/vit-b-dinov2_linear_8xb2-38k_nyu-416x544.py', '../_base_/vit-b-dinov2.py']

model = dict(neck=_base_.denoiser)
