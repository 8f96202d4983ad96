# Label-augmented DenoiseRep: predictors and backbone are trained alternating in 12 phases.
# The 24 convolutions of the feed-forward layers: two of 1x1 and a depthwise one each.
_base_ = [
    '../../baselines/segmentation/segformer_mit-b1_finetune-80k_ade20k-512x512.py',
    '../_base_/phases.py',
]

model = dict(
    type='reprefine.DenoiseRep', base_type={{_base_.model.type}}, denoise=dict(include=r'\.ffn\.', loss_weight=0.01)
)
custom_hooks = [dict(type='reprefine.DenoisePhaseHook', by='iter', phase_length=6667), _base_.reparameterize]
