_base_ = '../../baselines/segmentation/vit-b-eva02_linear_8xb2-40k_ade20k-512x512.py'

model = dict(
    neck=dict(
        type='reprefine.DVTDenoiser',
        in_channels=768,
        grid=32,
        features=dict(model_id='eva02_base_patch16_clip_224.merged2b'),
        checkpoint='work_dirs/dvt/denoiser/vit-b-eva02_denoiser_8xb8-100k_voc10k/iter_100000.pth',
    )
)
