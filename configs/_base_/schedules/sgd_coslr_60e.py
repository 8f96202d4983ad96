# The optimiser of MoCo, over 60 epochs.
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.03, momentum=0.9, weight_decay=1e-4))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=60, eta_min=3e-5, by_epoch=True, begin=0, end=60)]
train_cfg = dict(by_epoch=True, max_epochs=60)
