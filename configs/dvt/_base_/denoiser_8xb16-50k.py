# Training of the denoiser in the newer release: the same 6.4 million samples in batches twice as large.
_base_ = './denoiser_8xb8-100k.py'

# From the features of stage1/*_denoise-field-25k_768views.py.
train_dataloader = dict(
    batch_size=16, dataset=dict(data_root='data/dvt/field-25k', made_with=dict(solver='field', profile='head'))
)
optim_wrapper = dict(optimizer=dict(lr=1.4142135623730951e-4))
param_scheduler = [dict(type='reprefine.DenoiserLR', total=50000)]
train_cfg = dict(max_iters=50000)
