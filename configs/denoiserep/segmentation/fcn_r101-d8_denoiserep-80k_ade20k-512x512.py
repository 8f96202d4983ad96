# Label-augmented DenoiseRep: predictors and backbone are trained alternating in 12 phases.
# All convolutions of the backbone, dilated ones included, denoised at their outputs.
_base_ = [
    '../../baselines/segmentation/fcn_r101-d8_finetune-80k_ade20k-512x512.py',
    '../_base_/phases.py',
]

# SGD needs the full weight, which Adam would cancel.
model = dict(
    type='reprefine.DenoiseRep',
    base_type={{_base_.model.type}},
    denoise=dict(include=r'^backbone\.', loss_weight=1.0),
)
custom_hooks = [dict(type='reprefine.DenoisePhaseHook', by='iter', phase_length=6667), _base_.reparameterize]
