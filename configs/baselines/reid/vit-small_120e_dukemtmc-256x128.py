_base_ = [
    '../../_base_/models/reid_vit-small.py',
    '../../_base_/datasets/dukemtmc.py',
    '../../_base_/datasets/reid.py',
    '../../_base_/datasets/reid_256x128.py',
    '../../_base_/schedules/reid_sgd_120e.py',
    '../../_base_/runtime.py',
]

load_from = _base_.luperson
model = dict(head=dict(num_classes=_base_.num_classes))
data_preprocessor = dict(num_classes=_base_.num_classes)
train_dataloader = dict(dataset=dict(_base_.identities, pipeline=_base_.train_pipeline))
val_dataloader = test_dataloader = dict(dataset=dict(_base_.identities, pipeline=_base_.test_pipeline))
