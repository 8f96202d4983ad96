# Label-augmented DenoiseRep: predictors and backbone are trained alternating in 12 phases.
# The 24 MLP layers of the backbone.
_base_ = [
    '../../baselines/segmentation/swin-tiny-patch4-window7-in1k-pre_upernet_finetune-80k_ade20k-512x512.py',
    '../_base_/phases.py',
]

model = dict(
    type='reprefine.DenoiseRep', base_type={{_base_.model.type}}, denoise=dict(include='mlp', loss_weight=0.01)
)
custom_hooks = [dict(type='reprefine.DenoisePhaseHook', by='iter', phase_length=6667), _base_.reparameterize]
