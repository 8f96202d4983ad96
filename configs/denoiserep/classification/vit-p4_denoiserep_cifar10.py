# Label-augmented DenoiseRep: predictors and backbone are trained alternating every 10 epochs.
# All 26 layers: 25 Linear and the patch embedding, here a convolution, which is denoised at its output.
_base_ = [
    '../../baselines/classification/vit-p4_finetune-200e_cifar10.py',
    '../_base_/phases.py',
]

model = dict(
    type='reprefine.DenoiseRep', base_type={{_base_.model.type}}, denoise=dict(include='all', loss_weight=0.01)
)
custom_hooks = [dict(type='reprefine.DenoisePhaseHook', phase_length=10), _base_.reparameterize]
