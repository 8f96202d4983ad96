# Label-augmented DenoiseRep: predictors and backbone are trained in turns of 10 epochs.
# All 53 convolutions, denoised at their outputs.
_base_ = [
    '../../baselines/classification/resnet50_finetune-120e_in1k.py',
    '../../_base_/recipes/denoiserep_10e-turns.py',
]

model = dict(_base_.denoiserep, _delete_=True, model={{_base_.model}}, include='conv')
custom_hooks = _base_.alternating
