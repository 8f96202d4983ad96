# mmseg's 160k schedule at the learning rate of BiSeNetV1, with a warm-up.
_base_ = 'mmseg::_base_/schedules/schedule_160k.py'

optim_wrapper = dict(optimizer=dict(lr=5e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=1000),
    dict(type='PolyLR', eta_min=1e-4, power=0.9, by_epoch=False, begin=1000, end=160000),
]
