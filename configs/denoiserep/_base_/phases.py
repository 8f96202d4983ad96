# What DenoiseRep adds to a training: a leaf names its phases, and at the end the weights are saved reparameterised.
reparameterize = dict(type='reprefine.ReparameterizeHook')
predictors_only = [dict(type='reprefine.DenoisePhaseHook', phases=('denoise',)), reparameterize]
find_unused_parameters = True  # each phase trains one half of the parameters
