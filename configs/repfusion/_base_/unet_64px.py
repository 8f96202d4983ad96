# The bottleneck has 512 channels and 8x8 positions.
unet = dict(
    sample_size=64,
    in_channels=3,
    out_channels=3,
    block_out_channels=(128, 256, 256, 512),
    layers_per_block=2,
    norm_num_groups=32,
    down_block_types=('DownBlock2D', 'DownBlock2D', 'AttnDownBlock2D', 'DownBlock2D'),
    up_block_types=('UpBlock2D', 'AttnUpBlock2D', 'UpBlock2D', 'UpBlock2D'),
)
