_base_ = ['mmpretrain::mocov2/benchmarks/resnet50_8xb32-linear-steplr-100e_in1k.py', '../../_base_/reprefine.py']
