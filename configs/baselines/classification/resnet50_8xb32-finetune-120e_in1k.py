# Equal-budget control of DenoiseRep: 120 more epochs from the official checkpoint, no noise predictor.
_base_ = './resnet50_8xb32_in1k.py'

# Top-1 accuracy 76.55.
weights = 'https://download.openmmlab.com/mmclassification/v0/resnet/'
load_from = weights + 'resnet50_8xb32_in1k_20210831-ea4938fc.pth'
optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = dict(_delete_=True, type='CosineAnnealingLR', T_max=120, eta_min=1e-4, by_epoch=True)
train_cfg = dict(max_epochs=120)
