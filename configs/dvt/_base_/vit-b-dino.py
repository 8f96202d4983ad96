# What DVT trains for DINO ViT-B/16: the denoiser of the paper's tables, that of the newer release, and the distilled ViT.
denoiser = dict(
    type='reprefine.DVTDenoiser',
    in_channels=768,
    grid=32,
    features=dict(model_id='vit_base_patch16_224.dino'),
    checkpoint='work_dirs/dvt/denoiser/vit-b-dino_denoiser_8xb8-100k_voc10k/iter_100000.pth',
)
denoiser_50k = dict(denoiser, checkpoint='work_dirs/dvt/denoiser/vit-b-dino_denoiser_8xb16-50k_voc10k/iter_50000.pth')
distilled = dict(
    img_size=512,
    checkpoint='work_dirs/dvt/distill/vit-b-dino_distill_8xb64-5e_in1k/epoch_5.pth',
    revise_keys=[(r'^backbone\.vit\.', '')],
)
