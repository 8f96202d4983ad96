# The features have a position pattern that is known, as large as themselves.
_base_ = ['../../_base_/models/vit-p4_64px.py', '../../_base_/recipes/linear_120_ade20k-64px.py']

model = dict(
    backbone=dict(type='reprefine.PatternedBackbone', backbone={{_base_.backbone}}, channels=96, grid=16),
)
