_base_ = [
    '../../_base_/models/wrn-28-2-cifar.py',
    '../../_base_/datasets/cifar10.py',
    '../../_base_/schedules/sgd_200e_small-images.py',
    '../../_base_/runtime.py',
]
optim_wrapper = dict(optimizer=dict(nesterov=True))
auto_scale_lr = dict(base_batch_size=64)
custom_hooks = [dict(type='EMAHook', momentum=0.001, priority='ABOVE_NORMAL')]
