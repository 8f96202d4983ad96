# Label-augmented DenoiseRep: predictors and backbone are trained alternating every 10 epochs, which count from 1.
_base_ = [
    '../../baselines/reid/vit-small_finetune-240e_msmt17-256x128.py',
    '../_base_/phases.py',
]

model = dict(
    type='reprefine.DenoiseRep',
    base_type={{_base_.model.type}},
    denoise=dict(include='mlp', loss_weight=0.1),
)
# In place of the doubled rate of biases, also for the predictors' biases.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(denoiser=dict(lr_mult=4.0))))
custom_hooks = [dict(type='reprefine.DenoisePhaseHook', phase_length=10, first_index=1), _base_.reparameterize]
