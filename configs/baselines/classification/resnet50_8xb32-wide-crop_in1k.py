_base_ = ['mmpretrain::_base_/models/resnet50.py', '../../_base_/recipes/pddr_in1k.py']

model = dict(backbone=dict(zero_init_residual=False))
