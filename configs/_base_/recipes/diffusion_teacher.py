# Averaged weights, samples after every evaluation, and the teacher saved in the layout of diffusers.
_base_ = '../runtime.py'


model = dict(
    type='reprefine.DenoisingDiffusion',
    data_preprocessor=dict(type='ImgDataPreprocessor', mean=[127.5] * 3, std=[127.5] * 3),
)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='EMAHook', momentum=0.001, priority='ABOVE_NORMAL'),
    dict(type='reprefine.SampleGridHook'),
    dict(type='reprefine.SaveTeacherHook'),
]
val_cfg = dict()
test_cfg = dict()
