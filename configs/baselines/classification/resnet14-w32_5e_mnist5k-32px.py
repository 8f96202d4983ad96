# Twice as wide: the teacher of ordinary distillation.
_base_ = './resnet14-narrow_5e_mnist5k-32px.py'

model = dict(backbone=dict(stem_channels=32, base_channels=32), head=dict(in_channels=128))
