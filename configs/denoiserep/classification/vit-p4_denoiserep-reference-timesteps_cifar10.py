# The timesteps of the released code, whose counter restarts in every sub-tree of its ViT: 26 and 25 alternate.
_base_ = ['../../baselines/classification/vit-p4_finetune-200e_cifar10.py', '../_base_/phases.py']

timestep = {r'attn\.proj$|ffn\.layers\.1$': 25, r'.': 26}
model = dict(
    type='reprefine.DenoiseRep',
    base_type={{_base_.model.type}},
    denoise=dict(include='all', loss_weight=0.01, timestep=timestep),
)
custom_hooks = [dict(type='reprefine.DenoisePhaseHook', phase_length=10), _base_.reparameterize]
