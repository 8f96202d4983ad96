_base_ = '../../baselines/segmentation/vit-b-dino_linear_8xb2-40k_voc12-512x512.py'

model = dict(
    neck=dict(
        type='reprefine.DVTDenoiser',
        in_channels=768,
        grid=32,
        features=dict(model_id='vit_base_patch16_224.dino'),
        checkpoint='work_dirs/dvt/denoiser/vit-b-dino_denoiser_8xb8-100k_voc10k/iter_100000.pth',
    )
)
