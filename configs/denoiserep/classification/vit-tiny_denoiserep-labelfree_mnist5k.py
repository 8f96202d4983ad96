# Label-free DenoiseRep: only the predictors are trained, by the noise loss.
_base_ = './vit-tiny_denoiserep_mnist5k.py'

model = dict(denoise=dict(label_free=True, loss_weight=1.0))
custom_hooks = [
    dict(type='reprefine.EpochSeedHook'),
    dict(type='reprefine.DenoisePhaseHook', phases=('denoise',)),
    dict(type='reprefine.ReparameterizeHook'),
]
