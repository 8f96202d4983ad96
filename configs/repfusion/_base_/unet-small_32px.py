# One million parameters; the bottleneck has 64 channels and 4x4 positions.
unet = dict(
    sample_size=32,
    in_channels=3,
    out_channels=3,
    block_out_channels=(16, 32, 64, 64),
    layers_per_block=1,
    norm_num_groups=8,
    down_block_types=('DownBlock2D',) * 4,
    up_block_types=('UpBlock2D',) * 4,
)
