# Label-augmented DenoiseRep: predictors and backbone are trained in turns of 10 epochs.
_base_ = [
    '../../baselines/classification/swinv2-tiny-w8_2xb128-finetune-120e_in1k-256px.py',
    '../../_base_/recipes/denoiserep_10e-turns.py',
]

model = dict(
    type='reprefine.DenoiseRep', base_type={{_base_.model.type}}, denoise=dict(include='mlp', loss_weight=0.01)
)
custom_hooks = _base_.alternating
