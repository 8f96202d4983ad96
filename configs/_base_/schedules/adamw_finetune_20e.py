# 20 epochs from a trained checkpoint, at a tenth of the learning rate it was trained with.
_base_ = './adamw_30e.py'

optim_wrapper = dict(optimizer=dict(lr=2e-4))
param_scheduler = [dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, end=20, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=20)
