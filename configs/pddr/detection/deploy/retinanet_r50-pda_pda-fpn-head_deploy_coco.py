_base_ = '../retinanet_r50-pda_fpn_1x_coco.py'

layer = dict(type='reprefine.PDConv', mode='A', norm_cfg=dict(type='SyncBN'), deploy=True)
model = dict(backbone=dict(deploy=True), neck=dict(conv_cfg=layer), bbox_head=dict(conv_cfg=layer))
