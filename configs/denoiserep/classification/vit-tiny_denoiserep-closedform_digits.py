# Label-free DenoiseRep in closed form: one pass over the training images, no gradient descent.
_base_ = './vit-tiny_denoiserep_digits.py'

model = dict(denoise=dict(label_free=True))
train_cfg = dict(_delete_=True, type='reprefine.DenoiseFitLoop')
custom_hooks = [dict(type='reprefine.EpochSeedHook'), dict(type='reprefine.ReparameterizeHook')]
