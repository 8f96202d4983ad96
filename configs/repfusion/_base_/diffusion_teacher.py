# Averaged weights, samples after every evaluation, and the teacher saved in the layout of diffusers.
_base_ = '../../_base_/runtime.py'

model = dict(
    type='reprefine.DenoisingDiffusion',
    data_preprocessor=dict(type='ImgDataPreprocessor', mean=[127.5] * 3, std=[127.5] * 3),
)
averaging = dict(type='EMAHook', momentum=1e-4, priority='ABOVE_NORMAL')
teacher_hooks = [dict(type='reprefine.SampleGridHook'), dict(type='reprefine.SaveTeacherHook')]
custom_hooks = [averaging, *teacher_hooks]
val_cfg = dict()
test_cfg = dict()
