# With the denoiser of the newer release.
_base_ = ['../../baselines/depth/vit-b-dinov2-reg_linear_8xb2-38k_nyu-416x544.py', '../_base_/vit-b-dinov2-reg.py']

model = dict(neck=_base_.denoiser_50k)
