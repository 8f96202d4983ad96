# Control of DenoiseRep in the same phases: the noise predictors are trained, but the layers take no reverse step.
_base_ = ['../../baselines/classification/vit-tiny_finetune-20e_digits.py', '../_base_/phases.py']

model = dict(
    type='reprefine.DenoiseRep',
    base_type={{_base_.model.type}},
    denoise=dict(include='mlp', loss_weight=0.01, step='none'),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(denoiser=dict(lr_mult=10, decay_mult=0))))
custom_hooks = [dict(type='reprefine.DenoisePhaseHook', phase_length=5), _base_.reparameterize]
