# MoCo without the transform for 30 epochs, then with the transform.
_base_ = '../../baselines/selfsup/moco-v2_resnet14-narrow_60e_mnist5k.py'

model = dict(feature_transform=dict(pos=dict(alpha=2.0), neg=dict(alpha=1.6)))
custom_hooks = [*_base_.custom_hooks, dict(type='reprefine.FTScheduleHook', start_epoch=30)]
