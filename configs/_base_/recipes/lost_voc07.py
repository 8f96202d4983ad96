# Object discovery on VOC2007 trainval: images in their own size, all objects count, also difficult ones.
_base_ = ['../models/lost.py', 'mmdet::_base_/default_runtime.py', '../reprefine.py']

test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='VOCDataset',
        data_root='data/VOCdevkit/',
        ann_file='VOC2007/ImageSets/Main/trainval.txt',
        data_prefix=dict(sub_data_root='VOC2007/'),
        test_mode=True,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape')),
        ],
    ),
)
test_cfg = dict(type='TestLoop')
test_evaluator = dict(type='reprefine.CorLoc')
