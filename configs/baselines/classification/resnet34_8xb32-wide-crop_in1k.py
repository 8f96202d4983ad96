_base_ = [
    'mmpretrain::_base_/models/resnet34.py',
    '../../_base_/datasets/imagenet_bs32_wide-crop.py',
    'mmpretrain::_base_/schedules/imagenet_bs256.py',
    '../../_base_/runtime.py',
]
