# Label-free DenoiseRep in closed form: one pass over the training images, no gradient descent.
_base_ = './vit-small_denoiserep-labelfree_cuhk03-labeled-256x128.py'

train_cfg = dict(_delete_=True, type='reprefine.DenoiseFitLoop')
custom_hooks = [_base_.custom_hooks[0], _base_.custom_hooks[-1]]
