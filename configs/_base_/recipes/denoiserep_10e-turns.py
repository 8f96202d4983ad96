# DenoiseRep on classification: predictors and backbone are trained in turns of 10 epochs.
alternating = [dict(type='reprefine.DenoisePhaseHook', phase_length=10), dict(type='reprefine.ReparameterizeHook')]
find_unused_parameters = True  # each phase trains one half of the parameters
