# With the statistics that the denoiser was trained with, which it checks.
_base_ = './vit-b-eva02-dvt_linear_8xb2-38k_nyu-416x544.py'

model = dict(
    backbone=dict(norm='native'),
    neck=dict(features=dict(mean=_base_.native.mean, std=_base_.native.std)),
)
