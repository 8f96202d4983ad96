_base_ = [
    '../../_base_/models/vit-b-deit3.py',
    '../../_base_/datasets/imagenet_whole-512x512.py',
    '../../_base_/recipes/dvt_distill_8xb64-5e.py',
]

model = dict(
    # The student's position table has the grid of its training images.
    backbone=dict(img_size=512, **_base_.backbone),
    neck=dict(
        in_channels=768,
        grid=32,
        features=dict(
            model_id=_base_.backbone.model_name,
            input_size=_base_.native.size,
            mean=_base_.native.mean,
            std=_base_.native.std,
        ),
        checkpoint='work_dirs/dvt/denoiser/vit-b-deit3_denoiser_8xb16-50k_voc10k/iter_50000.pth',
    ),
    data_preprocessor=dict(mean=_base_.native.mean, std=_base_.native.std),
)
