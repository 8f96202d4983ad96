_base_ = '../retinanet_r50-pda_pda-fpn-head_1x_coco.py'

layer = dict(deploy=True)
model = dict(backbone=layer, neck=dict(conv_cfg=layer), bbox_head=dict(conv_cfg=layer))
