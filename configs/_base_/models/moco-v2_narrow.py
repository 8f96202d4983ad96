# MoCo v2 for the narrow ResNet, without its backbone. Without a transform the class trains MoCo; unlike mmpretrain's, it
# also returns the statistics of the scores.
model = dict(
    type='reprefine.MoCoFT',
    queue_len=2048,
    feat_dim=128,
    momentum=0.01,
    neck=dict(type='MoCoV2Neck', in_channels=64, hid_channels=64, out_channels=128, with_avg_pool=True),
    head=dict(type='ContrastiveHead', loss=dict(type='CrossEntropyLoss'), temperature=0.2),
)
