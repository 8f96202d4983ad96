# The first three stages of ResNet-18, a quarter as wide: 64 features. Batches are normalised in four parts, so that the
# shuffled keys of MoCo cannot be identified by the statistics of their batch; on one device BatchNorm would leak them.
backbone = dict(
    type='ResNet',
    depth=18,
    stem_channels=16,
    base_channels=16,
    num_stages=3,
    strides=(1, 2, 2),
    dilations=(1, 1, 1),
    out_indices=(2,),
    norm_cfg=dict(type='reprefine.SplitBN', num_splits=4),
    zero_init_residual=False,
)
