_base_ = ['mmpretrain::resnet/resnet50_8xb32_in1k.py', '../../_base_/reprefine.py']
