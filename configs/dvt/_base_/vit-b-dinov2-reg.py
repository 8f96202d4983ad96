# What DVT trains for DINOv2 ViT-B/14 with registers: the denoiser of the paper's tables, that of the newer release, and the distilled ViT.
denoiser = dict(
    type='reprefine.DVTDenoiser',
    in_channels=768,
    grid=37,
    features=dict(model_id='vit_base_patch14_reg4_dinov2.lvd142m'),
    checkpoint='work_dirs/dvt/denoiser/vit-b-dinov2-reg_denoiser_8xb8-100k_voc10k/iter_100000.pth',
)
denoiser_50k = dict(
    denoiser, checkpoint='work_dirs/dvt/denoiser/vit-b-dinov2-reg_denoiser_8xb16-50k_voc10k/iter_50000.pth'
)
distilled = dict(
    img_size=518,
    checkpoint='work_dirs/dvt/distill/vit-b-dinov2-reg_distill_8xb64-5e_in1k/epoch_5.pth',
    revise_keys=[(r'^backbone\.vit\.', '')],
)
