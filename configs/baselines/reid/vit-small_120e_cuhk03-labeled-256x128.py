_base_ = [
    '../../_base_/models/reid_vit-small.py',
    '../../_base_/datasets/cuhk03-labeled_256x128.py',
    '../../_base_/schedules/reid_sgd_120e.py',
    '../../_base_/runtime.py',
]

load_from = _base_.luperson

model = dict(head=dict(num_classes=767))
