_base_ = [
    '../../_base_/models/mask-rcnn_r50-c4-syncbn.py',
    '../../_base_/datasets/coco_instance_ms.py',
    'mmdet::_base_/schedules/schedule_2x.py',
    'mmdet::_base_/default_runtime.py',
]
