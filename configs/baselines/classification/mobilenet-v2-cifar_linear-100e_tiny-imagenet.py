# A linear classifier on a frozen network: here of random weights, the floor of every probe.
_base_ = './mobilenet-v2-cifar_200e_tiny-imagenet.py'

model = dict(backbone=dict(frozen_stages=8, norm_eval=True))
optim_wrapper = dict(optimizer=dict(lr=0.4, weight_decay=0.0, nesterov=False))
param_scheduler = dict(_delete_=True, type='CosineAnnealingLR', T_max=100, by_epoch=True)
train_cfg = dict(max_epochs=100)
