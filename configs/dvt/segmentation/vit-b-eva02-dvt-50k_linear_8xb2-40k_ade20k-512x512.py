# With the denoiser of the newer release.
_base_ = ['../../baselines/segmentation/vit-b-eva02_linear_8xb2-40k_ade20k-512x512.py', '../_base_/vit-b-eva02.py']

model = dict(neck=_base_.denoiser_50k)
