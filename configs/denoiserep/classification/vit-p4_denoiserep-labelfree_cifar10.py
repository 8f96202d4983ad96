# Label-free DenoiseRep: only the predictors are trained, by the noise loss.
_base_ = ['../../baselines/classification/vit-p4_finetune-200e_cifar10.py', '../_base_/phases.py']

model = dict(
    type='reprefine.DenoiseRep',
    base_type={{_base_.model.type}},
    denoise=dict(include='all', label_free=True, loss_weight=1.0),
)
custom_hooks = _base_.predictors_only
