_base_ = [
    '../../_base_/models/resnet14-narrow.py',
    '../../_base_/models/moco-v2_narrow.py',
    '../../_base_/datasets/mnist5k_two-views_32px.py',
    '../../_base_/schedules/sgd_coslr_60e.py',
    '../../_base_/runtime.py',
]

model = dict(backbone=_base_.backbone)
custom_hooks = [
    dict(type='reprefine.ScoreStatsHook'),
    dict(type='reprefine.KNNMonitorHook', interval=20, **_base_.neighbours),
]
