# Label-augmented DenoiseRep: predictors and backbone are trained in turns of 10 epochs.
_base_ = [
    '../../baselines/reid/vit-small_finetune-240e_msmt17-256x128.py',
    '../../_base_/recipes/denoiserep_reid.py',
]

model = dict(type='reprefine.DenoiseRep', base_type={{_base_.model.type}}, denoise=dict(include='mlp', loss_weight=0.1))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.denoiser_keys))
custom_hooks = [*_base_.custom_hooks, *_base_.alternating]
