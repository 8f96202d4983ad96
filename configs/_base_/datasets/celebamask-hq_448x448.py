# CelebAMask-HQ: 18 parts of the face, background pixels ignored. First run
#   python tools/dataset_tools/prepare_celebamask_hq.py data/celebamask-hq
dataset_type = 'reprefine.CelebAMaskHQ'
data_root = 'data/celebamask-hq'
crop_size = (448, 448)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='reprefine.ResizeToMask'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(512, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='reprefine.RandomFaceFlip', prob=0.5, swap_labels=True),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='reprefine.ResizeToMask'),
    dict(type='Resize', scale=(512, 512)),
    # Behind Resize: predictions are compared at the size of the label map.
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
# --tta averages over three sizes. Not over a flip: it would add the scores of left and right parts up.
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='reprefine.ResizeToMask'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=(size, size)) for size in (384, 512, 640)],
            [dict(type='LoadAnnotations')],
            [dict(type='PackSegInputs')],
        ],
    ),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(type=dataset_type, data_root=data_root, ann_file='train_celebahqmask.txt', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=dataset_type, data_root=data_root, ann_file='val_celebahqmask.txt', pipeline=test_pipeline),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=dataset_type, data_root=data_root, ann_file='test_celebahqmask.txt', pipeline=test_pipeline),
)
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
