# Label-augmented DenoiseRep: predictors and backbone are trained in 12 turns.
# All convolutions of the backbone, dilated ones included, denoised at their outputs.
_base_ = [
    '../../baselines/segmentation/fcn_r101-d8_finetune-80k_ade20k-512x512.py',
    '../../_base_/recipes/denoiserep_80k.py',
]

# SGD needs the full weight, which Adam would cancel.
model = dict(
    type='reprefine.DenoiseRep',
    base_type={{_base_.model.type}},
    denoise=dict(include=r'^backbone\.', loss_weight=1.0),
)
