_base_ = [
    '../../_base_/models/reid_r50.py',
    '../../_base_/datasets/market1501.py',
    '../../_base_/datasets/reid.py',
    '../../_base_/datasets/reid_256x128.py',
    '../../_base_/schedules/reid_adam_120e.py',
    '../../_base_/runtime.py',
]

model = dict(head=dict(num_classes=_base_.num_classes))
# ImageNet's normalisation, for its weights.
data_preprocessor = dict(num_classes=_base_.num_classes, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
train_dataloader = dict(dataset=dict(_base_.identities, pipeline=_base_.train_pipeline))
val_dataloader = test_dataloader = dict(dataset=dict(_base_.identities, pipeline=_base_.test_pipeline))
