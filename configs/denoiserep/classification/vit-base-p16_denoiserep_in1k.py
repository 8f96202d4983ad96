# Label-augmented DenoiseRep: predictors and backbone are trained in turns of 10 epochs.
_base_ = [
    '../../baselines/classification/vit-base-p16_finetune-120e_in1k.py',
    '../../_base_/recipes/denoiserep_10e-turns.py',
]

model = dict(_base_.denoiserep, _delete_=True, model={{_base_.model}}, include='mlp')
custom_hooks = _base_.alternating
