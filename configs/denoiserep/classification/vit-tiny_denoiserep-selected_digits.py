# Label-free DenoiseRep in closed form, whose timestep, step and layers are chosen on the validation images.
_base_ = [
    '../../baselines/classification/vit-tiny_finetune-20e_digits.py',
    '../_base_/phases.py',
    '../_base_/selected.py',
]

model = dict(
    type='reprefine.DenoiseRep',
    base_type={{_base_.model.type}},
    denoise=dict(include='mlp', label_free=True, step='selected'),
)
train_cfg = dict(_delete_=True, type='reprefine.DenoiseFitLoop', select=_base_.select)
custom_hooks = [_base_.reparameterize]
