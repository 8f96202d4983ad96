# As for patches of 16, with what follows from patches of 14; the anchors of the published runs are not known.
_base_ = './simple-fpn_24k_voc0712.py'

strides = [3.5, 7, 14, 28, 56]
model = dict(
    data_preprocessor=dict(pad_size_divisor=28),
    rpn_head=dict(anchor_generator=dict(strides=strides)),
    roi_head=dict(bbox_roi_extractor=dict(featmap_strides=strides[:4])),
)
