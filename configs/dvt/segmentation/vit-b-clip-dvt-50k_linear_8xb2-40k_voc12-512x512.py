# With the denoiser of the newer release.
_base_ = ['../../baselines/segmentation/vit-b-clip_linear_8xb2-40k_voc12-512x512.py', '../_base_/vit-b-clip.py']

model = dict(neck=_base_.denoiser_50k)
