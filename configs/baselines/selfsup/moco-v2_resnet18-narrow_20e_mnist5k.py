_base_ = [
    '../../_base_/datasets/mnist5k_two-views_32px.py',
    '../../_base_/schedules/sgd_coslr_20e.py',
    '../../_base_/runtime.py',
]

# Without a transform the class trains plain MoCo; beyond the host's, it returns the statistics of the scores.
model = dict(
    type='reprefine.MoCoFT',
    queue_len=2048,
    feat_dim=128,
    momentum=0.01,
    backbone=dict(
        type='ResNet', depth=18, stem_channels=16, base_channels=16, norm_cfg=dict(type='BN'), zero_init_residual=False
    ),
    neck=dict(type='MoCoV2Neck', in_channels=128, hid_channels=128, out_channels=128, with_avg_pool=True),
    head=dict(type='ContrastiveHead', loss=dict(type='CrossEntropyLoss'), temperature=0.2),
)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='reprefine.ScoreStatsHook'),
    dict(type='reprefine.KNNMonitorHook', interval=5, **_base_.neighbours),
]
