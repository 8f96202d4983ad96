# The features have a position pattern that is known, as large as themselves.
_base_ = './vit-p4_linear_120_ade20k-64px.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='reprefine.PatternedBackbone',
        backbone={{_base_.model.backbone}},
        channels=96,
        grid=16,
    )
)
