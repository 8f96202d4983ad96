# The denoiser of the demonstration's small ViT.
denoiser = dict(
    type='reprefine.DVTDenoiser',
    in_channels=96,
    num_heads=3,
    grid=16,
    checkpoint='work_dirs/dvt/demo/vit-p4_denoiser_300_ade20k-64px/iter_300.pth',
)
