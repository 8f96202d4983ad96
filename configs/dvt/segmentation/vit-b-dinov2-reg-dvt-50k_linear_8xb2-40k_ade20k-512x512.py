# With the denoiser of the newer release.
_base_ = [
    '../../baselines/segmentation/vit-b-dinov2-reg_linear_8xb2-40k_ade20k-512x512.py',
    '../_base_/vit-b-dinov2-reg.py',
]

model = dict(neck=_base_.denoiser_50k)
