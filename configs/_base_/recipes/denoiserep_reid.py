# DenoiseRep on re-identification: the 24 MLP layers of a ViT; epochs count from 1, so the first turn lasts nine.
# In place of the doubled rate of biases, also for the predictors' biases.
denoiser_keys = dict(denoiser=dict(lr_mult=4.0))
alternating = [
    dict(type='reprefine.DenoisePhaseHook', phase_length=10, first_index=1),
    dict(type='reprefine.ReparameterizeHook'),
]
predictors_only = [
    dict(type='reprefine.DenoisePhaseHook', phases=('denoise',)),
    dict(type='reprefine.ReparameterizeHook'),
]
find_unused_parameters = True  # each phase trains one half of the parameters
