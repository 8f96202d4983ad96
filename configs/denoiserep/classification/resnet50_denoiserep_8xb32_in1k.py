# Label-augmented DenoiseRep: predictors and backbone are trained alternating every 10 epochs.
# All 53 convolutions, denoised at their outputs.
_base_ = [
    '../../baselines/classification/resnet50_8xb32-finetune-120e_in1k.py',
    '../_base_/phases.py',
]

model = dict(
    type='reprefine.DenoiseRep', base_type={{_base_.model.type}}, denoise=dict(include='conv', loss_weight=0.01)
)
custom_hooks = [dict(type='reprefine.DenoisePhaseHook', phase_length=10), _base_.reparameterize]
