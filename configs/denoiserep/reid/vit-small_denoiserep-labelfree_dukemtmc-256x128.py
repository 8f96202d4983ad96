# Label-free DenoiseRep: only the predictors are trained, by the noise loss, on images drawn without identities.
_base_ = './vit-small_denoiserep_dukemtmc-256x128.py'

model = dict(denoise=dict(label_free=True, loss_weight=1.0))
train_dataloader = dict(batch_sampler=None)
custom_hooks = [_base_.custom_hooks[0], *_base_.predictors_only]
