_base_ = [
    '../../_base_/models/resnet14-narrow.py',
    '../../_base_/datasets/mnist5k_two-views_32px.py',
    '../../_base_/schedules/sgd_coslr_60e.py',
    '../../_base_/runtime.py',
]

# Without a transform the class trains MoCo; unlike mmpretrain's, it also returns the statistics of the scores.
model = dict(
    type='reprefine.MoCoFT',
    queue_len=2048,
    feat_dim=128,
    momentum=0.01,
    backbone=_base_.backbone,
    neck=dict(type='MoCoV2Neck', in_channels=64, hid_channels=64, out_channels=128, with_avg_pool=True),
    head=dict(type='ContrastiveHead', loss=dict(type='CrossEntropyLoss'), temperature=0.2),
)
custom_hooks = [
    dict(type='reprefine.ScoreStatsHook'),
    dict(type='reprefine.KNNMonitorHook', interval=20, **_base_.neighbours),
]
