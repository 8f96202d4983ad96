# Training of the denoiser in the newer release: the same 6.4 million samples in batches twice as large.
_base_ = './dvt_denoiser_8xb8-100k.py'

train_dataloader = dict(batch_size=16)
optim_wrapper = dict(optimizer=dict(lr=1.4142135623730951e-4))
param_scheduler = [dict(type='reprefine.DenoiserLR', total=50000)]
train_cfg = dict(max_iters=50000)
