_base_ = '../cascade-rcnn_r50-pda_fpn_1x_coco.py'

model = dict(backbone=dict(deploy=True))
