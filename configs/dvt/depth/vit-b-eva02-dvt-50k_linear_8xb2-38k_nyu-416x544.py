# With the denoiser of the newer release.
_base_ = ['../../baselines/depth/vit-b-eva02_linear_8xb2-38k_nyu-416x544.py', '../_base_/vit-b-eva02.py']

model = dict(neck=_base_.denoiser_50k)
