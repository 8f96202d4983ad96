# Label-free DenoiseRep: only the predictors are trained, by the noise loss.
_base_ = ['../../baselines/classification/vit-tiny_finetune-20e_mnist5k.py', '../_base_/phases.py']

model = dict(
    type='reprefine.DenoiseRep',
    base_type={{_base_.model.type}},
    denoise=dict(include='mlp', label_free=True, loss_weight=1.0),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(denoiser=dict(lr_mult=10, decay_mult=0))))
custom_hooks = _base_.predictors_only
