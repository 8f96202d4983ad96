_base_ = '../../baselines/segmentation/vit-b-dinov2_linear_8xb2-40k_ade20k-512x512.py'

model = dict(
    neck=dict(
        type='reprefine.DVTDenoiser',
        in_channels=768,
        grid=37,
        features=dict(model_id='vit_base_patch14_dinov2.lvd142m'),
        checkpoint='work_dirs/dvt/denoiser/vit-b-dinov2_denoiser_8xb8-100k_voc10k/iter_100000.pth',
    )
)
