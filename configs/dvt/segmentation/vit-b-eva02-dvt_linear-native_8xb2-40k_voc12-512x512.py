# With the statistics that the denoiser was trained with, which it checks.
_base_ = './vit-b-eva02-dvt_linear_8xb2-40k_voc12-512x512.py'

model = dict(
    backbone=dict(norm='native'),
    neck=dict(features=dict(mean=_base_.native.mean, std=_base_.native.std)),
)
