# With the statistics that the denoiser was trained with, which it checks.
_base_ = ['../../baselines/depth/vit-b-clip_linear_8xb2-38k_nyu-416x544.py', '../_base_/vit-b-clip.py']

model = dict(
    backbone=dict(norm='native'),
    neck=dict(
        _base_.denoiser,
        features=dict(_base_.denoiser.features, mean=_base_.native.mean, std=_base_.native.std),
    ),
)
