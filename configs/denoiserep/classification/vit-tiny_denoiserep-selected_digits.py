# Label-free DenoiseRep in closed form, whose timestep, step and layers are chosen on the validation images. For images of
# another kind, such as noisy ones, give val_dataloader images of that kind.
_base_ = ['../../baselines/classification/vit-tiny_finetune-20e_digits.py', '../_base_/phases.py']

model = dict(
    type='reprefine.DenoiseRep',
    base_type={{_base_.model.type}},
    denoise=dict(include='mlp', label_free=True, step='selected'),
)
train_cfg = dict(
    _delete_=True,
    type='reprefine.DenoiseFitLoop',
    select=dict(
        timesteps=['descending', 100, 300, 500, 999],
        steps=['ddpm', 'ddim'],
        layers=['all', 'first', r'layers\.0\.'],
        metric='accuracy/top1',
    ),
)
custom_hooks = [_base_.reparameterize]
