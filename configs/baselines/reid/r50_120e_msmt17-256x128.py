_base_ = [
    '../../_base_/models/reid_r50.py',
    '../../_base_/datasets/msmt17_256x128.py',
    '../../_base_/schedules/reid_adam_120e.py',
    '../../_base_/runtime.py',
]

model = dict(head=dict(num_classes=1041))
# ImageNet's normalisation, for its weights.
data_preprocessor = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
