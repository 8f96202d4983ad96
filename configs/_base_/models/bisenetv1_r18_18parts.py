# BiSeNetV1 from scratch, for the 18 parts of CelebAMask-HQ in crops of 448 x 448.
_base_ = 'mmseg::_base_/models/bisenetv1_r18-d32.py'

data_preprocessor = dict(size=(448, 448))
model = dict(
    data_preprocessor=data_preprocessor,
    decode_head=dict(num_classes=18),
    auxiliary_head=[dict(head, num_classes=18) for head in _base_.model.auxiliary_head],
)
