_base_ = [
    '../../_base_/models/vit-b-dinov2-reg.py',
    '../_base_/vit-b-dinov2-reg.py',
    '../_base_/imagenet_whole-518x518.py',
    '../_base_/distill_8xb64-5e.py',
]

statistics = dict(mean=_base_.native.mean, std=_base_.native.std)
features = dict(_base_.denoiser_50k.features, input_size=_base_.native.size, **statistics)
model = dict(
    # The student's position table has the grid of its training images.
    backbone=dict(img_size=_base_.native.size, **_base_.backbone),
    neck=dict(_base_.denoiser_50k, features=features),
    data_preprocessor=statistics,
)
