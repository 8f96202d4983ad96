# DenoiseRep over 80k iterations: predictors and backbone are trained in 12 turns.
custom_hooks = [
    dict(type='reprefine.DenoisePhaseHook', by='iter', phase_length=6667),
    dict(type='reprefine.ReparameterizeHook'),
]
find_unused_parameters = True  # each phase trains one half of the parameters
