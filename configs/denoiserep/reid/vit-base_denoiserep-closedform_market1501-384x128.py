# Label-free DenoiseRep in closed form: one pass over the training images, no gradient descent.
_base_ = './vit-base_denoiserep-labelfree_market1501-384x128.py'

train_cfg = dict(_delete_=True, type='reprefine.DenoiseFitLoop')
custom_hooks = [_base_.custom_hooks[0], _base_.custom_hooks[-1]]
