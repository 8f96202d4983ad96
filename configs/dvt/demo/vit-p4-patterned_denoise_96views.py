# The features have a position pattern that is known, as large as themselves.
_base_ = './vit-p4_denoise_96views.py'

backbone = dict(
    _delete_=True,
    type='reprefine.PatternedBackbone',
    backbone={{_base_.backbone}},
    channels=96,
    grid=16,
)
stage1 = dict(model_id='vit-p4-patterned')
