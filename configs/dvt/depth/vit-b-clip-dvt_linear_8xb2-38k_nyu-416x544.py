_base_ = '../../baselines/depth/vit-b-clip_linear_8xb2-38k_nyu-416x544.py'

model = dict(
    neck=dict(
        type='reprefine.DVTDenoiser',
        in_channels=768,
        grid=32,
        features=dict(model_id='vit_base_patch16_clip_384.laion2b_ft_in12k_in1k'),
        checkpoint='work_dirs/dvt/denoiser/vit-b-clip_denoiser_8xb8-100k_voc10k/iter_100000.pth',
    )
)
