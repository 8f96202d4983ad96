# Label-free DenoiseRep in closed form: one pass over the training images, no gradient descent.
_base_ = ['../../baselines/classification/vit-p4_finetune-200e_cifar10.py', '../_base_/phases.py']

model = dict(
    type='reprefine.DenoiseRep',
    base_type={{_base_.model.type}},
    denoise=dict(include='all', label_free=True, loss_weight=0.01),
)
train_cfg = dict(_delete_=True, type='reprefine.DenoiseFitLoop')
custom_hooks = [_base_.reparameterize]
