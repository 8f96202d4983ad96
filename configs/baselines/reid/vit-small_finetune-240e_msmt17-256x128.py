# Equal-budget control of DenoiseRep: 240 more epochs from the baseline's checkpoint, no noise predictor.
_base_ = [
    '../../_base_/models/reid_vit-small.py',
    '../../_base_/datasets/msmt17.py',
    '../../_base_/datasets/reid.py',
    '../../_base_/datasets/reid_256x128.py',
    '../../_base_/schedules/reid_sgd_120e.py',
    '../../_base_/runtime.py',
]

# The checkpoint of that run; or an official one, imported by tools/model_converters/import_transreid_ssl.py.
load_from = 'work_dirs/baselines/reid/vit-small_120e_msmt17-256x128/epoch_120.pth'
model = dict(head=dict(num_classes=_base_.num_classes))
data_preprocessor = dict(num_classes=_base_.num_classes)
# 32 identities with 4 images each
train_dataloader = dict(batch_size=128, dataset=dict(_base_.identities, pipeline=_base_.train_pipeline))
val_dataloader = test_dataloader = dict(dataset=dict(_base_.identities, pipeline=_base_.test_pipeline))
optim_wrapper = dict(type='AmpOptimWrapper', optimizer=dict(lr=1e-4))
param_scheduler = dict(period=240)
train_cfg = dict(max_epochs=240)
auto_scale_lr = dict(base_batch_size=128)
