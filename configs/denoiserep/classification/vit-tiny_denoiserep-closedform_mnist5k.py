# Label-free DenoiseRep in closed form: one pass over the training images, no gradient descent.
_base_ = ['../../baselines/classification/vit-tiny_finetune-20e_mnist5k.py', '../_base_/phases.py']

model = dict(
    type='reprefine.DenoiseRep',
    base_type={{_base_.model.type}},
    denoise=dict(include='mlp', label_free=True, loss_weight=0.01),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(denoiser=dict(lr_mult=10, decay_mult=0))))
train_cfg = dict(_delete_=True, type='reprefine.DenoiseFitLoop')
custom_hooks = [_base_.reparameterize]
