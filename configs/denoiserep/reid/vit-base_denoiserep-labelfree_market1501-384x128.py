# Label-free DenoiseRep: only the predictors are trained, by the noise loss, on images drawn without identities.
_base_ = [
    '../../baselines/reid/vit-base_finetune-120e_market1501-384x128.py',
    '../_base_/phases.py',
]

model = dict(
    type='reprefine.DenoiseRep',
    base_type={{_base_.model.type}},
    denoise=dict(include='mlp', label_free=True, loss_weight=1.0),
)
# In place of the doubled rate of biases, also for the predictors' biases.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(denoiser=dict(lr_mult=4.0))))
train_dataloader = dict(batch_sampler=None)
custom_hooks = _base_.predictors_only
