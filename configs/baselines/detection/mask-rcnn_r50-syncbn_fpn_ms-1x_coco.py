_base_ = [
    '../../_base_/models/mask-rcnn_r50-syncbn_fpn.py',
    '../../_base_/datasets/coco_instance_ms.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
    '../../_base_/reprefine.py',
]
