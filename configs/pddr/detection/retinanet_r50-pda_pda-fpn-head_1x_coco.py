# The detector's own 3x3 convolutions too: those behind the FPN's sums and those of the head, but for its last ones.
_base_ = './retinanet_r50-pda_fpn_1x_coco.py'

layer = dict(type='reprefine.PDConv', mode='A', norm_cfg=dict(type='SyncBN'))
model = dict(neck=dict(conv_cfg=layer), bbox_head=dict(conv_cfg=layer))
