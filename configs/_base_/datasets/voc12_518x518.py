# VOC2012, images squashed to 518x518, the size of stage 1.
_base_ = 'mmseg::_base_/datasets/pascal_voc12.py'

num_classes = 21
resize = dict(type='Resize', scale=(518, 518), keep_ratio=False)
load_labels = dict(type='LoadAnnotations')
train_pipeline = [dict(type='LoadImageFromFile'), load_labels, resize, dict(type='PackSegInputs')]
test_pipeline = [dict(type='LoadImageFromFile'), resize, load_labels, dict(type='PackSegInputs')]
train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    sampler=dict(_delete_=True, type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
