# Label-augmented DenoiseRep: predictors and backbone are trained in 12 turns.
# The 24 MLP layers of the backbone.
_base_ = [
    '../../baselines/segmentation/swin-tiny-patch4-window7-in1k-pre_upernet_finetune-80k_ade20k-512x512.py',
    '../../_base_/recipes/denoiserep_80k.py',
]

model = dict(
    type='reprefine.DenoiseRep', base_type={{_base_.model.type}}, denoise=dict(include='mlp', loss_weight=0.01)
)
