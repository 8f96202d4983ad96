# Label-augmented DenoiseRep: predictors and backbone are trained alternating every 10 epochs.
_base_ = [
    '../../baselines/classification/swinv2-tiny-w8_2xb128-finetune-120e_in1k-256px.py',
    '../_base_/phases.py',
]

model = dict(
    type='reprefine.DenoiseRep', base_type={{_base_.model.type}}, denoise=dict(include='mlp', loss_weight=0.01)
)
custom_hooks = [dict(type='reprefine.DenoisePhaseHook', phase_length=10), _base_.reparameterize]
