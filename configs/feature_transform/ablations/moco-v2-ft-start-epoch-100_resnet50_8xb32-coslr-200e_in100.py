# MoCo without the transform for 100 epochs, then with the transform.
_base_ = '../selfsup/moco-v2-ft_resnet50_8xb32-coslr-200e_in100.py'

custom_hooks = [*_base_.custom_hooks, dict(type='reprefine.FTScheduleHook', start_epoch=100)]
