# The optimiser of MoCo, over 20 epochs.
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.06, momentum=0.9, weight_decay=1e-4))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=20, eta_min=6e-5, by_epoch=True, begin=0, end=20)]
train_cfg = dict(by_epoch=True, max_epochs=20)
