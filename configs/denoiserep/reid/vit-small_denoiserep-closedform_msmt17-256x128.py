# Label-free DenoiseRep in closed form: one pass over the training images, no gradient descent.
_base_ = [
    '../../baselines/reid/vit-small_finetune-240e_msmt17-256x128.py',
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
train_cfg = dict(_delete_=True, type='reprefine.DenoiseFitLoop')
custom_hooks = [_base_.reparameterize]
