_base_ = [
    '../../_base_/models/reid_vit-base.py',
    '../../_base_/datasets/msmt17_256x128.py',
    '../../_base_/schedules/reid_sgd_120e.py',
    '../../_base_/runtime.py',
]

load_from = _base_.luperson

model = dict(head=dict(num_classes=1041))

train_pipeline, test_pipeline, tta_pipeline = _base_.train_pipeline, _base_.test_pipeline, _base_.tta_pipeline
train_pipeline[1].scale = test_pipeline[1].scale = tta_pipeline[1].scale = (128, 384)
train_pipeline[3].crop_size = (384, 128)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
